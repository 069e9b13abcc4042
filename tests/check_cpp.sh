#!/bin/sh
# check_cpp.sh - ssm.h in C++: the quick start, the Arduino sketch, programs of several units, no name
# or macro that is not announced, and the C++ examples. g++ and clang++, each with several standards.
set -u
out=build/check/cpp
mkdir -p $out
. tests/expect.sh
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I."
implementation=tests/compile/implementation.c

# runs FLAGS SOURCE...: builds one program of all sources, each a unit of its own, and runs it
runs() {
    flags=$1
    shift
    # shellcheck disable=SC2086
    $compiler -std=$standard $flags "$@" -o $out/cpp.program && $out/cpp.program > /dev/null
}

macros() { # LANGUAGE STANDARD FLAGS: names of the macros defined after ssm.h, without those of its includes
    printf '#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n' > $out/cpp.headers
    if [ -n "$3" ]; then # an implementation
        case $(uname -m) in
        x86_64) printf '#include <immintrin.h>\n#include <cpuid.h>\n' >> $out/cpp.headers ;;
        aarch64) printf '#include <arm_neon.h>\n' >> $out/cpp.headers ;;
        esac
    fi
    # shellcheck disable=SC2086
    $compiler -x "$1" -std="$2" -dM -E $out/cpp.headers | sort > $out/cpp.before
    # shellcheck disable=SC2086
    $compiler -x "$1" -std="$2" $3 -dM -E ssm.h | sort | comm -13 $out/cpp.before - |
        awk '{ sub(/\(.*/, "", $2); print $2 }'
}

# Announced: the table of >>config, and what the public part defines. SSM_IMPLEMENTED guards the rest.
{
    sed -n '/^ \* >>config/,/^ \* >>contracts/p' ssm.h | grep -o 'SSM_[A-Z][A-Z_]*'
    sed -n '/^#define SSM_H$/,/^#endif .* SSM_H /s/^#define \(SSM_[A-Z][A-Z_]*\).*/\1/p' ssm.h
    echo SSM_H
    echo SSM_IMPLEMENTED
} | sort -u > $out/cpp.announced

announced() { # LANGUAGE STANDARD FLAGS: no macro but those
    macros "$@" | sort > $out/cpp.macros
    grep -q '^SSM_VERSION$' $out/cpp.macros || return 1
    if comm -23 $out/cpp.macros $out/cpp.announced | grep .; then return 1; fi
    return 0
}

exports() { # FLAGS PATTERN: the implementation as C++ exports names of this pattern alone, unmangled
    # shellcheck disable=SC2086
    $compiler -std=$standard -x c++ $1 -I. -c $implementation -o $out/cpp.o || return 1
    if nm -g $out/cpp.o | awk '$(NF - 1) != "U" { print $NF }' | grep -v -E "$2"; then return 1; fi
    return 0
}

# The quick start is C as well; its {0} is what -Wextra dislikes in C++.
sed -n '/^ \* QUICK START/,/^ \* CONTENTS/{/^ \*   /s/^ \*   //p;/^ \*$/s/.*//p;}' ssm.h > $out/quickstart.cc
grep -q 'int main' $out/quickstart.cc || expect cpp/quick_start_found false

# The sketch, with a board that has one input and prints; it must not run out of memory.
sketch=examples/firmware/README.md
cat > $out/Arduino.h << 'END'
#include <stdio.h>
enum { A0 };
static int sketch_failed;
static inline int analogRead(int) { return 700; }
static struct {
    void begin(long) {}
    void println(const char *text) { puts(text), sketch_failed = 1; }
    void println(double) { sketch_failed -= 2; }
} Serial;
END
{
    echo '#include "Arduino.h"'
    awk '/^```arduino$/ { inside = 1; next } /^```$/ { inside = 0 } inside' $sketch
    echo 'int main() { setup(); loop(); return sketch_failed != -2; }'
} > $out/sketch.cc
grep -q 'void loop' $out/sketch.cc || expect cpp/sketch_found false

# The oldest standard and the newest; the examples, which want c++17, in theirs.
for compiler in g++ clang++; do
    if ! command -v $compiler > /dev/null; then
        echo "skip cpp/$compiler (needs $compiler)"
        continue
    fi
    for standard in c++11 c++20; do
        name=$compiler-$standard
        expect cpp/quick_start-$name runs "$warnings -Wno-missing-field-initializers" $out/quickstart.cc
        expect cpp/two_units-$name runs "$warnings -x c++" $implementation tests/compile/use.cc
        expect cpp/static_in_two_units-$name runs "$warnings -x c++" tests/compile/static_a.c tests/compile/static_b.c
        expect cpp/names-$name runs "-Wall -Wextra -Wpedantic -Werror -I." tests/compile/names.cc
        for part in "" -DSSM_IMPLEMENTATION -DSSM_STATIC; do
            expect cpp/macros-$name$part announced c++ $standard "$part"
        done
        [ $standard = c++11 ] || continue
        expect cpp/sketch-$name runs "-x c++ -fno-exceptions -fno-rtti -DSSM_NO_SIMD $warnings" \
            $out/sketch.cc $implementation
        expect cpp/exports-$name exports "" '^_?ssm_[a-z0-9]'
        expect cpp/exports-$name-static exports -DSSM_STATIC '^$'
    done
    for source in examples/cpp/*.cpp; do
        example=cpp/example_$(basename "$source" .cpp)-$compiler
        standard=c++17
        expect "$example-$standard" runs "-O1 -ffp-contract=off $warnings" "$source"
        # shellcheck disable=SC2086
        expect "$example-c++20" $compiler -std=c++20 $warnings -fsyntax-only "$source"
    done
    for part in "" -DSSM_IMPLEMENTATION -DSSM_STATIC; do
        expect cpp/macros-$compiler-c99$part announced c c99 "$part"
    done
done
