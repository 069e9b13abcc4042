#!/bin/sh
# check_examples.sh - the examples and the bench build strictly; the examples, which judge their own
# results, run in full; the bench agrees with its plain loops.
out=build/check
mkdir -p $out
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"

. tests/expect.sh

for source in examples/*.c bench/*.c; do
    name=$(basename $source .c)
    for compiler in gcc clang; do
        if command -v $compiler > /dev/null; then
            expect example/$name-$compiler \
                $compiler -std=c99 -O2 -ffp-contract=off $warnings $source -o $out/$name-$compiler -lm
        else
            echo "skip example/$name-$compiler (needs $compiler)"
        fi
    done
done
expect example/speaker-runs $out/speaker-gcc --model $out/speaker.model
expect example/memory-runs $out/memory-gcc --svg $out/memory.svg
expect example/irregular-runs $out/irregular-gcc
expect example/forecast-runs $out/forecast-gcc
expect example/bench-agrees $out/bench-gcc --check
