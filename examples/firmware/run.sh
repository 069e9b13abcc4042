#!/bin/sh
# run.sh - the speaker model on a board under QEMU, built if need be.
#
#   run.sh [BOARD [FORMAT]]     all boards, real, bf16 and int8, unless named
#
# Exit status 1 if a board's bits are not the desktop's.
cd "$(dirname "$0")/../.." || exit
. examples/firmware/boards.sh
failed=0
for name in ${1:-$boards}; do
    missing=$(needs "$name")
    if [ -n "$missing" ]; then
        echo "$name: left out, it needs the package $missing"
        continue
    fi
    for format in ${2:-real bf16 int8}; do
        board "$name" && speaker_tables && library "$name" &&
            program "build/firmware/$name/speaker-$format.elf" build/firmware/$family/$format $here/main.c || exit
        echo "$name, $format:"
        # QEMU is killed should the program hang
        timeout 120 $qemu "build/firmware/$name/speaker-$format.elf" < /dev/null | sed 's/^/  /' > build/firmware/run.txt
        cat build/firmware/run.txt
        "${tool}size" -A "build/firmware/$name/speaker-$format.elf" |
            awk '$1 == ".text" { print "  flash " $2 " bytes, weights and recordings included" }'
        grep -q '^  9 of 9 recordings' build/firmware/run.txt || failed=1
    done
done
exit $failed
