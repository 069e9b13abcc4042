#!/bin/sh
# check_link.sh - programs of several units link and run; objects export and import what they should.
set -u
out=build/check/link
mkdir -p $out
. tests/expect.sh
c="-std=c99 -Wall -Wextra -Wpedantic -Werror -I."
cc="-std=c++11 -Wall -Wextra -Wpedantic -Werror -I."
implementation=tests/compile/implementation.c

has() {
    command -v "$1" > /dev/null || { echo "skip link/$1 (needs $1)"; return 1; }
}

# only ALLOWED: no line of standard input but those that match; shows the others
only() {
    if grep -v -E "$1"; then return 1; fi
    return 0
}

# symbols SELECTION OBJECT: names alone; defined (without what compilers make up), exported or imported
symbols() {
    case $1 in
    defined) nm "$2" | awk '$(NF - 1) != "U" { print $NF }' | grep -v -E '^\.|\.[0-9]+$|^switch\.' ;;
    exported) nm -g "$2" | awk '$(NF - 1) != "U" { print $NF }' ;;
    imported) nm -u "$2" | awk '{ print $NF }' ;;
    esac
}

exports() { symbols exported "$1" | only "$2"; }
imports() { symbols imported "$1" | only "$2"; }
defines() { symbols defined "$1" | only "$2"; }
macros() { $1 -std=c99 -I. -dM -E "$2" | awk '{ sub(/\(.*/, "", $2); print $2 }'; }
NONE='^$'

links() { # OBJECT LINKER COMPILER SOURCE: the object and a unit of its own are a program
    $3 -c $4 -o $out/two.o && $2 $1 $out/two.o -o $out/program && $out/program
}

static_in_two() { # COMPILER
    $1 $c -c tests/compile/static_a.c -o $out/one.o && links $out/one.o $1 "$1 $c" tests/compile/static_b.c
}

for compiler in gcc clang; do
    has $compiler || continue
    if [ $compiler = gcc ]; then plus=g++; else plus=clang++; fi
    has $plus || continue
    for how in "c $c" "c++ -x c++ $cc"; do
        language=${how%% *} flags=${how#* }
        if [ "$language" = c ]; then builder=$compiler; else builder=$plus; fi
        $builder $flags -c $implementation -o $out/one.o
        expect "link/$compiler-implementation_in_$language-use_in_c" \
            links $out/one.o $builder "$compiler $c" tests/compile/use.c
        expect "link/$compiler-implementation_in_$language-use_in_c++" \
            links $out/one.o $plus "$plus $cc" tests/compile/use.cc
    done
    expect "link/$compiler-static_in_two_units" static_in_two $compiler
    for source in order hooks; do
        expect "link/$compiler-$source" \
            sh -c "$compiler $c tests/compile/$source.c -o $out/program && $out/program"
    done

    # Without libc a compiler may still emit calls of memcpy and memset by itself, for struct copies and
    # loops that look like one: it expects any environment to have them. GCC on x86-64 emits none.
    allowed='^(memcpy|memset)$'
    if [ "$compiler-$(uname -m)" = gcc-x86_64 ]; then allowed_freestanding=$NONE; else allowed_freestanding=$allowed; fi
    # How a program is linked does not depend on the level, but what a compiler calls by itself does.
    for level in 0 2; do
        name=symbols/$compiler-O$level
        $compiler $c -O$level -DSSM_NO_LIBC -ffreestanding -c $implementation -o $out/no_libc.o
        expect $name-no_libc-imports imports $out/no_libc.o "$allowed_freestanding"
        [ $level != 2 ] || continue
        $compiler $c -O$level -c $implementation -o $out/plain.o
        expect $name-plain-exports exports $out/plain.o '^ssm_[a-z0-9]'
        expect $name-plain-defines defines $out/plain.o '^ssm_'
        expect $name-plain-imports imports $out/plain.o "$allowed"
        $compiler $c -O$level -DSSM_STATIC -c $implementation -o $out/static.o
        expect $name-static-exports exports $out/static.o "$NONE"
        expect $name-static-imports imports $out/static.o "$allowed"
    done

    # Macros: every name starts with SSM_, and the private ones are gone at the end.
    printf '#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n' > $out/headers.c
    case $(uname -m) in
    x86_64) printf '#include <immintrin.h>\n#include <cpuid.h>\n' >> $out/headers.c ;;
    aarch64) printf '#include <arm_neon.h>\n' >> $out/headers.c ;;
    esac
    macros $compiler $out/headers.c | sort > $out/macros.before
    macros $compiler $implementation | sort | comm -13 $out/macros.before - > $out/macros.after
    expect macros/$compiler-prefixed sh -c "! grep -v '^SSM_' $out/macros.after && [ -s $out/macros.after ]"
    expect macros/$compiler-private_undefined sh -c "! grep '^SSM__' $out/macros.after"
done

if has gcc; then
    # Without libc only the headers that come with the compiler are there.
    expect link/no_libc-compiler_headers_only gcc $c -DSSM_NO_LIBC -ffreestanding -nostdinc \
        -isystem "$(gcc -print-file-name=include)" -c $implementation -o $out/no_libc.o
fi
