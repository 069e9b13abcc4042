#!/bin/sh
# tally.sh - runs commands and adds up their results.
#
#   tally.sh COMMAND...      each a shell command, or "label: shell command"
#
# One after another, or TALLY_JOBS at a time with the seconds of each; what they print comes in their order in any case.
# A command reports with lines "ok NAME", "FAIL NAME" and "skip NAME (why)"; its own totals are left
# out. One that reports nothing, or fails without a FAIL line, counts as a failure. Exit status 1 if
# anything failed. At the end what failed is named again; the last line is "N passed, N failed" (and
# ", N skipped" if any).
mark="tally-$$"

# run DIRECTORY NUMBER: one job into a file, complete under its name only at the end
if [ "${1:-}" = --run ]; then
    began=$(date +%s)
    sh -c "$(cat "$2/$3.command")" > "$2/$3.output" 2>&1
    echo $? > "$2/$3.status"
    echo "     took $(($(date +%s) - began)) s" >> "$2/$3.output"
    mv "$2/$3.output" "$2/$3.done"
    exit 0
fi

folder=$(mktemp -d) || exit
trap 'rm -rf "$folder"' EXIT
count=0
for job; do
    count=$((count + 1))
    case $job in
    *": "*) printf '%s' "${job%%: *}" > "$folder/$count.label" ;;
    *) : > "$folder/$count.label" ;;
    esac
    printf '%s' "${job#*: }" > "$folder/$count.command"
done

jobs=${TALLY_JOBS:-1}
i=0
if [ "$jobs" -gt 1 ]; then
    while [ $i -lt $count ]; do i=$((i + 1)) && echo $i; done | xargs -n 1 -P "$jobs" sh "$0" --run "$folder" &
fi

i=0
while [ $i -lt $count ]; do
    i=$((i + 1))
    echo "$mark begin $(cat "$folder/$i.label")"
    if [ "$jobs" -gt 1 ]; then
        while [ ! -f "$folder/$i.done" ]; do sleep 0.2; done
        cat "$folder/$i.done"
    else
        sh -c "$(cat "$folder/$i.command")" 2>&1
        echo $? > "$folder/$i.status"
    fi
    echo "$mark end $(cat "$folder/$i.status") $(cat "$folder/$i.command")"
done | awk $(awk -W version 2>&1 | grep -q mawk && echo -W interactive) -v mark="$mark" '
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
            names[++failed] = label $0
        }
        fflush()
        next
    }
    /^[0-9]+ passed, [0-9]+ failed/ || /^failed: / { next }
    /^(ok|FAIL|skip) / {
        reported += 1
        if ($1 == "ok") passed += 1
        if ($1 == "skip") skipped += 1
        if ($1 == "FAIL") { names[++failed] = label substr($0, 6); failures += 1 }
        if (label != "") sub(/^(ok|FAIL|skip) */, "&" label)
    }
    { print; fflush() }
    END {
        for (i = 1; i <= failed; i++) print "failed: " names[i]
        printf "%d passed, %d failed", passed, failed
        if (skipped) printf ", %d skipped", skipped
        printf "\n"
        exit failed > 0
    }'
