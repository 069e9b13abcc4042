#!/bin/sh
# check_compile.sh - the implementation compiles without a warning, by each compiler in each pair of standard, level
# and way of building; the full product would take an hour. JOBS compilers at a time.
#
#   check_compile.sh                              all of them
#   check_compile.sh COMPILER STANDARD LEVEL WAY  one, as the first form calls itself
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Werror"

if [ $# -eq 4 ]; then
    name=compile/$1-$2-O$3-$4
    case $2 in
    c++*) language="-x c++" ;;
    *) language="-x c" warnings="$warnings -Wstrict-prototypes -Wmissing-prototypes" ;;
    esac
    case $4 in
    plain) way="" ;;
    double) way="-DSSM_DOUBLE" ;;
    static) way="-DSSM_STATIC" ;;
    no_libc) way="-DSSM_NO_LIBC -ffreestanding" ;;
    openmp) way="-fopenmp" ;;
    only) way="-DSSM_ONLY_EULER -DSSM_ONLY_REAL" ;;
    no_simd) way="-DSSM_NO_SIMD" ;;
    no_avx512) way="-DSSM_NO_AVX512" ;;
    plain_family) way="-DSSM_PLAIN" ;;
    *) echo "FAIL $name (unknown way)" && exit 1 ;;
    esac
    object=build/check/compile-$$.o
    # shellcheck disable=SC2086
    if $1 -std=$2 -O$3 $warnings $way $language -I. -c tests/compile/implementation.c -o $object; then
        echo "ok   $name"
    else
        echo "FAIL $name"
    fi
    rm -f $object
    exit 0
fi

mkdir -p build/check
for compiler in gcc clang; do
    if ! command -v $compiler > /dev/null; then
        echo "skip compile/$compiler (needs $compiler)" >&2
        continue
    fi
    # A Latin square: a level in each row and in each column once. Then what leaves code out, or adds little.
    while read -r standard plain double; do
        echo "$compiler $standard $plain plain"
        echo "$compiler $standard $double double"
    done << LEVELS
c99   2 3
c11   0 g
c++11 g 2
c++20 3 0
LEVELS
    echo "$compiler c99 0 static"
    echo "$compiler c++11 3 static"
    echo "$compiler c11 3 no_libc"
    echo "$compiler c++20 2 no_libc"
    echo "$compiler c99 2 only"
    echo "$compiler c++11 2 no_simd"
    echo "$compiler c11 2 no_avx512"
    echo "$compiler c++20 2 plain_family"
    [ $compiler = gcc ] && echo "$compiler c99 2 openmp"
done | xargs -n 4 -P "${JOBS:-2}" sh tests/check_compile.sh
