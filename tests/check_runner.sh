#!/bin/sh
# check_runner.sh - builds the test runner strictly and runs it.
#
#   check_runner.sh COMPILER FLAGS [WRAPPER [FILTER...]]      WRAPPER runs the program: "env NAME=VALUE"
compiler=$1 flags=$2 wrapper=${3:-env}
if [ $# -gt 3 ]; then shift 3; else set --; fi
for tool in $compiler ${wrapper%% *}; do
    command -v "$tool" > /dev/null || { echo "skip runner (needs $tool)"; exit 0; }
done
mkdir -p build/check
program=build/check/ssm_test-$$
trap 'rm -f $program' EXIT
# Fields that an initialiser leaves out are zero, which is what zero means in ssm.h.
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wno-missing-field-initializers -Werror"
$compiler -std=c99 -ffp-contract=off $warnings $flags tests/ssm_test.c -o $program -lm || exit
$wrapper $program "$@"
