#!/bin/sh
# tally.sh - runs commands one after another and adds up their results.
#
#   tally.sh COMMAND...      each a shell command, or "label: shell command"
#
# A command reports with lines "ok NAME", "FAIL NAME" and "skip NAME (why)"; its own totals are left
# out. One that reports nothing, or fails without a FAIL line, counts as a failure. Exit status 1 if
# anything failed; the last line is "N passed, N failed" (and ", N skipped" if any).
mark="tally-$$"
for job; do
    case $job in
    *": "*) label=${job%%: *} command=${job#*: } ;;
    *) label="" command=$job ;;
    esac
    echo "$mark begin $label"
    sh -c "$command" 2>&1
    echo "$mark end $? $command"
done | awk -v mark="$mark" '
    $1 == mark && $2 == "begin" {
        label = $0
        sub(/^[^ ]* begin ?/, "", label)
        if (label != "") label = label ": "
        reported = failures = 0
        next
    }
    $1 == mark {
        status = $3
        sub(/^[^ ]* end [0-9]* /, "")
        why = status != 0 && !failures ? "exit status " status : !reported ? "no results" : ""
        if (why != "") {
            print "FAIL " label $0 " (" why ")"
            failed += 1
        }
        fflush()
        next
    }
    /^[0-9]+ passed, [0-9]+ failed/ { next }
    /^(ok|FAIL|skip) / {
        reported += 1
        if ($1 == "ok") passed += 1
        if ($1 == "skip") skipped += 1
        if ($1 == "FAIL") { failed += 1; failures += 1 }
        if (label != "") sub(/^(ok|FAIL|skip) */, "&" label)
    }
    { print; fflush() }
    END {
        printf "%d passed, %d failed", passed, failed
        if (skipped) printf ", %d skipped", skipped
        printf "\n"
        exit failed > 0
    }'
