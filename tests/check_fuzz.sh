#!/bin/sh
# check_fuzz.sh - builds a fuzz program and runs it on random inputs.
#
#   check_fuzz.sh COMPILER FLAGS NAME [SECONDS]      NAME: layers, ops, attach, sizes; from seed FUZZ_SEED
compiler=$1 flags=$2 name=$3 seconds=${4:-20}
command -v "$compiler" > /dev/null || { echo "skip fuzz/$name (needs $compiler)"; exit 0; }
mkdir -p build/check
program=build/check/fuzz_$name-$$
trap 'rm -f $program' EXIT
echo 'int main(void) { return 0; }' > $program.c
$compiler $flags $program.c -o $program > /dev/null 2>&1 && $program ||
    { rm -f $program.c; echo "skip fuzz/$name ($compiler cannot build or run with $flags)"; exit 0; }
rm -f $program.c
# The programs include the layers' oracles and leave some of them alone.
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wno-missing-field-initializers -Wno-unused -Werror"
$compiler -std=c99 -ffp-contract=off $warnings $flags tests/fuzz_$name.c -o $program -lm || exit
$program --seed "${FUZZ_SEED:-1}" "$seconds" # the same inputs each time, as far as the clock lets it get
