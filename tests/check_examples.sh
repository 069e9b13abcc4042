#!/bin/sh
# check_examples.sh - the examples and the bench build strictly; the examples, which judge their own
# results, run in full; the bench agrees with its plain loops.
out=build/check
mkdir -p $out
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"

. tests/expect.sh

# Clang reads them all; GCC builds what is run.
for source in examples/*.c bench/*.c; do
    name=$(basename $source .c)
    case $name in
    scans | forms | firmware) build=-fsyntax-only ;;
    *) build="-o $out/$name-gcc -lm" ;;
    esac
    if command -v clang > /dev/null; then
        expect example/$name-clang clang -std=c99 $warnings -fsyntax-only $source
    else
        echo "skip example/$name-clang (needs clang)"
    fi
    if command -v gcc > /dev/null; then
        # shellcheck disable=SC2086
        expect example/$name-gcc gcc -std=c99 -O2 -ffp-contract=off $warnings $source $build
    else
        echo "skip example/$name-gcc (needs gcc)"
    fi
done
expect example/speaker-runs $out/speaker-gcc --model $out/speaker.model
expect example/memory-runs $out/memory-gcc --svg $out/memory.svg
expect example/irregular-runs $out/irregular-gcc
expect example/forecast-runs $out/forecast-gcc
expect example/bench-agrees $out/bench-gcc --check
