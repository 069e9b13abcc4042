# expect.sh - for the check scripts, which source it after setting `out`, their folder.

# expect NAME COMMAND...: the command must succeed; the end of what it printed is shown if it does not
expect() {
    expected=$1
    shift
    if "$@" > $out/output 2>&1; then
        echo "ok   $expected"
    else
        tail -n "${expect_lines:-20}" $out/output
        echo "FAIL $expected"
        return 1
    fi
}
