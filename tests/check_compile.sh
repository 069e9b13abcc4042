#!/bin/sh
# check_compile.sh - the implementation compiles without a warning: compilers x standards x levels x
# ways of building. JOBS compilers at a time.
#
#   check_compile.sh                              all
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
    for standard in c99 c11 c++11 c++20; do
        levels="0 2 3"
        [ $compiler = gcc ] && levels="$levels g"
        for level in $levels; do
            for way in plain double static no_libc; do echo "$compiler $standard $level $way"; done
        done
        echo "$compiler $standard 2 only"
        [ $compiler = gcc ] && echo "$compiler $standard 2 openmp"
    done
done | xargs -n 4 -P "${JOBS:-2}" sh tests/check_compile.sh
