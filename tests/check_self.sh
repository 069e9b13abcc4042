#!/bin/sh
# check_self.sh - the header finds itself, so that the program has every instruction set, wherever the header lies and
# however it is read; where it cannot, it says so and has the scalar kernels alone. In C and C++, gcc and clang.
set -u
root=$PWD
out=$PWD/build/self
rm -rf "$out"
mkdir -p "$out/vendor/ssm" "$out/app" "$out/alone"
. tests/expect.sh
cp ssm.h "$out/vendor/ssm/ssm.h"
cp ssm.h "$out/alone/state_space.h"
cp tests/compile/isas.c "$out/app/isas.c"
{ echo '#define SSM_IMPLEMENTATION' && cat ssm.h tests/compile/isas.c; } > "$out/alone/pasted.c"
strict="-Wall -Wextra -Wpedantic -Werror"

# prints WANT FLAG...: compiles in app/ what the flags say, and the program prints WANT
prints() {
    want=$1
    shift
    (cd "$out/app" && $build "$@" -o "$out/program" > "$out/messages" 2>&1) || { cat "$out/messages"; return 1; }
    got=$("$out/program") && got=${got% }
    [ "$got" = "$want" ] || { cat "$out/messages"; echo "'$got' instead of '$want'"; return 1; }
}

# Only the scalar kernels, and a message that says why.
alone() {
    prints scalar "$@" && { grep -q 'cannot find itself' "$out/messages" || { echo 'no message'; return 1; }; }
}

# precompiled COMMAND FLAG: the header, compiled once by that command, serves a program with that flag. GCC reads the
# header itself where the program defines a macro that the command did not
precompiled() {
    rm -rf "$out/pch"
    mkdir "$out/pch"
    cp ssm.h "$out/pch/ssm.h"
    case $compiler in
    gcc)
        (cd "$out/pch" && $1 ssm.h -o ssm.h.gch) || return
        prints "$all" ${2:+-Winvalid-pch} -I"$out/pch" -DHEADER='<ssm.h>' $2 isas.c
        ;;
    clang)
        (cd "$out/pch" && $1 ssm.h -o ssm.pch) || return
        prints "$all" -include-pch "$out/pch/ssm.pch" -I"$out/pch" -DHEADER='<ssm.h>' $2 isas.c
        ;;
    esac
}

# Compiled as it is, by its own name or from standard input: a library.
direct() {
    $build -DSSM_IMPLEMENTATION -c ssm.h -o "$out/direct.o" &&
        prints "$all" -DHEADER='"isas_public.h"' -I"$out" isas.c -x none "$out/direct.o"
}
echo '#undef SSM_IMPLEMENTATION' > "$out/isas_public.h"
echo '#include "vendor/ssm/ssm.h"' >> "$out/isas_public.h"

printf '#define SSM_IMPLEMENTATION\n#include "../vendor/ssm/ssm.h"\n#include "../vendor/ssm/ssm.h"\n' > "$out/app/twice.h"

for compiler in gcc clang; do
    if [ $compiler = gcc ]; then plus=g++; else plus=clang++; fi
    for language in c c++; do
        if [ $language = c ]; then tool=$compiler standard=c99; else tool=$plus standard=c++11; fi
        name=self/$compiler-$language
        command -v $tool > /dev/null || { echo "skip $name (needs $tool)"; continue; }
        build="$tool -x $language -std=$standard -O0 $strict"
        # Where the header lies is the preprocessor's business, which is the same for both languages.
        if [ $language = c ]; then
            $build -I. -DHEADER='"ssm.h"' tests/compile/isas.c -o "$out/program" && all=$("$out/program") && all=${all% }
            # What this machine has is more than scalar, where its processor is one that the header knows.
            case $(uname -m) in
            x86_64) expect $name-all sh -c "echo '$all' | grep '^scalar sse2'" ;;
            aarch64) expect $name-all [ "$all" = 'scalar neon' ] ;;
            esac
            expect $name-angles prints "$all" -I"$out/vendor/ssm" -DHEADER='<ssm.h>' isas.c
            expect $name-relative prints "$all" -DHEADER='"../vendor/ssm/ssm.h"' isas.c
            expect $name-prefix prints "$all" -I"$out/vendor" -DHEADER='<ssm/ssm.h>' isas.c
            expect $name-system prints "$all" -isystem "$out/vendor/ssm" -DHEADER='<ssm.h>' isas.c
            expect $name-renamed_told \
                prints "$all" -I"$out/alone" -DSSM_SELF='"state_space.h"' -DHEADER='"state_space.h"' isas.c
            expect $name-renamed_no_simd prints scalar -I"$out/alone" -DSSM_NO_SIMD -DHEADER='"state_space.h"' isas.c
            expect $name-pasted_beside prints "$all" -I"$out/vendor/ssm" "$out/alone/pasted.c"
            expect $name-twice prints "$all" -DHEADER='"twice.h"' isas.c
        fi
        expect $name-quotes prints "$all" -I"$out/vendor/ssm" -DHEADER='"ssm.h"' isas.c
        expect $name-renamed alone -I"$out/alone" -DHEADER='"state_space.h"' isas.c
        expect $name-pasted alone "$out/alone/pasted.c"
        expect $name-direct direct
        expect $name-precompiled precompiled "$tool -x $language-header -std=$standard $strict" ""
        expect $name-precompiled_implementation precompiled \
            "$tool -x $language-header -std=$standard $strict -DSSM_IMPLEMENTATION" "-DSSM_IMPLEMENTATION"
    done
done
cd "$root" && rm -rf "$out"
