#!/bin/sh
# check_compile.sh - the implementation compiles without a warning, by each compiler in each standard and way of building
# it. Most are only read, which takes a tenth of the time: what a level adds to the warnings comes from four of GCC's
# (values not set, ends of arrays), in each standard one, and one of Clang's. JOBS compilers at a time.
#
#   check_compile.sh                              all of them
#   check_compile.sh COMPILER STANDARD LEVEL WAY  one, as the first form calls itself; level read: -fsyntax-only
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Werror"

if [ $# -eq 4 ]; then
    case $3 in
    read) level=-fsyntax-only label=read ;;
    *) level=-O$3 label=O$3 ;;
    esac
    name=compile/$1-$2-$label-$4
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
    if $1 -std=$2 $level $warnings $way $language -I. -c tests/compile/implementation.c -o $object; then
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
    for standard in c99 c11 c++11 c++20; do
        echo "$compiler $standard read plain"
        echo "$compiler $standard read double"
    done
    echo "$compiler c99 read static"
    echo "$compiler c++11 read static"
    echo "$compiler c11 read no_libc"
    echo "$compiler c++20 read no_libc"
    echo "$compiler c99 read only"
    echo "$compiler c++11 read no_simd"
    echo "$compiler c11 read no_avx512"
    echo "$compiler c++20 read plain_family"
    echo "$compiler c++20 2 plain"
    [ $compiler = gcc ] || continue
    echo "$compiler c99 2 double"
    echo "$compiler c11 g plain"
    echo "$compiler c++11 3 no_simd"
    echo "$compiler c99 read openmp"
done | xargs -n 4 -P "${JOBS:-2}" sh tests/check_compile.sh
