#!/bin/sh
# fuzz.sh - every fuzz program for SECONDS each: with libFuzzer where clang has it, else on random inputs.
#
#   fuzz.sh SECONDS
seconds=$1
sanitize="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
mkdir -p build/fuzz
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return !d && n > 9; }' > build/fuzz/try.c
clang -fsanitize=fuzzer build/fuzz/try.c -o build/fuzz/try > /dev/null 2>&1 && engine=yes || engine=no
[ $engine = yes ] || echo "fuzz.sh: no clang with -fsanitize=fuzzer: random inputs"
for name in layers ops attach sizes; do
    [ -f tests/fuzz_$name.c ] || continue
    if [ $engine = no ]; then
        sh tests/check_fuzz.sh "${CC:-cc}" "$sanitize" $name "$seconds"
        continue
    fi
    mkdir -p build/fuzz/$name
    clang -std=c99 -ffp-contract=off $sanitize -fsanitize=fuzzer -DFUZZ_ENGINE tests/fuzz_$name.c -o build/fuzz/fuzz_$name -lm || exit
    if build/fuzz/fuzz_$name -max_total_time="$seconds" -max_len=400 -print_final_stats=1 \
        -artifact_prefix=build/fuzz/$name- build/fuzz/$name > build/fuzz/$name.log 2>&1; then
        inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/$name.log)
        echo "ok   fuzz/$name ($inputs inputs, libFuzzer)"
    else
        tail -n 30 build/fuzz/$name.log
        echo "FAIL fuzz/$name (replay: build/fuzz/fuzz_$name with the file that the log names)"
    fi
done
