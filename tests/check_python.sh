#!/bin/sh
# check_python.sh - the shared library, the Python module over it and what is shown of both. Needs Python 3
# with NumPy; compares with PyTorch where that is installed, with NumPy's own arithmetic anyway.
#
#   PYTHON=python3.12 check_python.sh      another Python
out=build/check
passed=0 failed=0 skipped=0
mkdir -p $out

for python in ${PYTHON:-python3 /usr/bin/python3}; do
    if "$python" -c 'import numpy' 2> /dev/null; then break; fi
    python=""
done
if [ -z "$python" ]; then
    echo "skip python (needs python3 with numpy: the package python3-numpy)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

# expect NAME COMMAND...: the command must succeed; what it printed is shown if it does not
expect() {
    expected=python/$1
    shift
    if "$@" > $out/python.output 2>&1; then
        echo "ok   $expected"
        passed=$((passed + 1))
    else
        tail -n 20 $out/python.output
        echo "FAIL $expected"
        failed=$((failed + 1))
    fi
}

PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
expect make_shared make -s CC="${CC:-cc}" shared shared-double
library() { # DOUBLE: where the module finds it
    "$python" -c "import sys; sys.path.insert(0, 'examples/python'); import ssm; print(ssm.default_path($1))"
}
float=$(library False) double=$(library True)

"$python" tests/check_python.py "${CC:-cc}" "$float" "$double" > $out/python.tests
status=$?
cat $out/python.tests
counts=$(awk '/^ok / { ok += 1 } /^FAIL / { bad += 1 } END { print ok + 0, bad + 0 }' $out/python.tests)
passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
# A crash leaves no line behind, but a status.
case $counts-$status in
0\ 0-*) expect check_python.py false ;;
*\ 0-0 | *\ [1-9]*-1) ;;
*) expect check_python.py sh -c "echo exit status $status; false" ;;
esac

# The README's program runs as it stands, in the folder that it names, with no path set.
awk '/^```python$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md > $out/readme.py
expect readme_has_python grep -q 'import ssm' $out/readme.py
expect readme_names_folder grep -q '^cd examples/python' README.md
expect readme_runs sh -c "cd examples/python && unset PYTHONPATH && '$python' -W error < ../../$out/readme.py"

for layer in s6 mamba; do
    for real in float double; do
        if [ $real = double ]; then flag=--double; else flag=""; fi
        # shellcheck disable=SC2086
        expect compare_$layer-$real-numpy "$python" examples/python/compare.py --numpy --layer $layer $flag
        if "$python" -c 'import torch' 2> /dev/null; then
            # shellcheck disable=SC2086
            expect compare_$layer-$real-torch "$python" examples/python/compare.py --layer $layer $flag
        fi
    done
done
if ! "$python" -c 'import torch' 2> /dev/null; then
    echo "skip python/compare-torch (needs the Python package torch)"
    skipped=1
fi

printf '%d passed, %d failed' $passed $failed
if [ $skipped -gt 0 ]; then printf ', %d skipped' $skipped; fi
echo
[ $failed -eq 0 ]
