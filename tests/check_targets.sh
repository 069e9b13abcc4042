#!/bin/sh
# check_targets.sh - builds the tests for other processors, systems and compilers, runs them there through
# a launcher, and compares every bit. JOBS targets at a time.
#
#   check_targets.sh              the rows of the table below for CI
#   check_targets.sh all          every row, and no test left out: about an hour on two cores
#   check_targets.sh NAME         one row        check_targets.sh NAME all
#   check_targets.sh packages     the Debian packages that the rows for CI need
#
# For each target:
#   tests     tests/ssm_test.c, with the same warnings and tolerances as everywhere
#   bits      tests/bits.c in float and in double gives the hashes that its family, plain or fused, has on this machine:
#             part by part, for every instruction set that the target has to have, to the program's last line, with
#             contraction of products and sums off and on
#   model     examples/speaker.c, of scalar kernels, reads a model file written here, streams every recording, and saves
#             the same bytes
# bits.c is built at -O2 and more; tests and model at -O1, which takes half the time: what a level does to results shows
# in the bits. Each target says how many seconds of processor time these took (wine's and what they call are in it).
# A target whose tools are missing is skipped, with the packages it needs. With SSM_TARGETS_STRICT=1 it
# has failed.
set -u
out=build/targets
common="-std=c99 -O2 -ffp-contract=off"
# How tests/bits.c is built, a name, precisions and flags: with contraction off; on, where the processor of the build
# multiplies and adds; by this machine's compilers in more ways, for AVX2 alone as well where the machine has it. A way
# and a precision have little to do with each other: what one row leaves out the next one has.
builds() {
    off=$common on="-std=gnu99 -O3 -ffp-contract=fast" fast="-std=gnu99 -O2 -ffp-contract=fast"
    case $1 in
    gcc)
        echo "off double $off"
        echo "on float $on"
        echo "native double $fast -march=native"
        echo "plain float $fast -march=native -DSSM_PLAIN"
        ! grep -q avx2 $out/isas || echo "haswell float $fast -march=haswell"
        ;;
    clang)
        echo "off float $off"
        echo "on double $on"
        echo "native float $fast -march=native"
        echo "O0 float -std=c99 -O0"
        ;;
    aarch64 | armv7-fma | riscv64 | s390x | ppc64)
        echo "off double $off"
        echo "on float $on"
        ;;
    wasi-simd | msvc | wasm-bare | gcc-12 | clang-[1-9]*) echo "off float,double $off" ;;
    *) echo "off float $off" ;;
    esac
}
# instruction_sets NAME BUILD: those whose bits the target must print; none where the program prints hashes of families
instruction_sets() {
    case $1-$2 in
    *-plain) [ "$(uname -m)" = x86_64 ] && echo scalar sse2 || echo scalar ;;
    gcc-* | clang-* | musl-* | mingw-*) cat $out/isas ;; # gcc-11, clang-13 and the like too
    aarch64-*) echo scalar neon ;;
    wasi-simd-*) echo scalar wasm ;;
    msvc-* | wasm-bare-*) ;;
    *) echo scalar ;;
    esac
}
# Fields that an initialiser leaves out are zero, which is what zero means in ssm.h.
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wno-missing-field-initializers -Werror"

# GCC for s390x computes float in double unless told otherwise, GCC for i386 in the x87's registers unless
# told to use SSE. armv7 has NEON there, but float arithmetic is VFP's, which keeps subnormal numbers.
# Tests: all; quick, where a run of all takes minutes: without those of `slow` below; brief, where that takes
# minutes too: those that `brief` names, all golden vectors and oracles among them; laws and bits: bits alone. tcc has no
# complex numbers: there the runner leaves the oracles of S4 and S5 out. msvc and wasm-bare are programs without a C
# library, whose bits are two hashes. Windows without one (SSM_NO_LIBC) has no vectors, since the headers of GCC's
# intrinsics want a C library; msvc has them and just no library to link.
table() {
    cat << 'END'
# name      | when  | compiler, with what its linker needs      | more flags for compiling | launcher    | tests | packages
gcc         | ci    | gcc                                       |                          |             | laws  | gcc
clang       | ci    | clang                                     |                          |             | laws  | clang
aarch64     | ci    | aarch64-linux-gnu-gcc -static             |                          | qemu-aarch64 | quick | qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
armv7       | ci    | arm-linux-gnueabihf-gcc -static           | -mfpu=neon               | qemu-arm    | quick | qemu-user gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
armv7-fma   | ci    | arm-linux-gnueabihf-gcc -static           | -mfpu=neon-vfpv4         | qemu-arm    | laws  | qemu-user gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
riscv64     | ci    | riscv64-linux-gnu-gcc -static             |                          | qemu-riscv64 | brief | qemu-user gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
s390x       | ci    | s390x-linux-gnu-gcc -static               | -fexcess-precision=fast  | qemu-s390x  | brief | qemu-user gcc-s390x-linux-gnu libc6-dev-s390x-cross
i386        | ci    | gcc-12 -m32 -static                       | -msse2 -mfpmath=sse      |             | quick | gcc-12 gcc-12-multilib
musl        | ci    | musl-gcc -static                          |                          |             | quick | musl-tools gcc
mingw       | ci    | x86_64-w64-mingw32-gcc -static            |                          | WINE        | quick | gcc-mingw-w64-x86-64-win32 wine64
wasi        | ci    | clang-19 --target=wasm32-wasi             | -D_WASI_EMULATED_PROCESS_CLOCKS | NODE        | quick | clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 nodejs
wasi-simd   | ci    | clang-19 --target=wasm32-wasi             | -msimd128 -D_WASI_EMULATED_PROCESS_CLOCKS | NODE        | laws  | clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 nodejs
msvc        | ci    | clang-19 --driver-mode=cl                 |                          | WINE        | bits  | clang-19 lld-19 llvm-19 wine64
wasm-bare   | ci    | clang-19 --target=wasm32                  |                          | NODE        | bits  | clang-19 lld-19 nodejs
tcc         | ci    | tcc                                       |                          |             | quick | tcc
gcc-11      | ci    | gcc-11                                    |                          |             | brief | gcc-11
gcc-12      | all   | gcc-12                                    |                          |             | all   | gcc-12
clang-13    | ci    | clang-13                                  |                          |             | brief | clang-13
clang-14    | all   | clang-14                                  |                          |             | all   | clang-14
clang-16    | all   | clang-16                                  |                          |             | all   | clang-16
clang-19    | ci    | clang-19                                  |                          |             | quick | clang-19
clang-22    | all   | clang-22                                  |                          |             | all   | clang-22
ppc64       | all   | powerpc64-linux-gnu-gcc -static           |                          | qemu-ppc64  | all   | qemu-user gcc-powerpc64-linux-gnu libc6-dev-ppc64-cross
mips        | all   | mips-linux-gnu-gcc -static                |                          | qemu-mips   | all   | qemu-user gcc-mips-linux-gnu libc6-dev-mips-cross
END
}
slow="bound/alignment bound/attach_errors bound/errors bound/no_state bound/record bound/split bound/step bound/work_step
    layers/alignment layers/batch layers/errors layers/gradients layers/gradients_added layers/gradients_optional
    layers/in_place layers/no_state layers/parallel layers/record layers/split layers/step_shared layers/strides
    ops/law_broadcast ops/parallel ops/scan_time_parallel s4/threads scan/primes scan/s5_layer scan/shapes scan/threads
    scan/threads_gradients scan/threads_s4 ssd/gradients"
brief="math/ golden hippo/ s4/ s5/ layers/oracle layers/step layers/packed layers/fork layers/snapshot
    layers/nan bound/linear bound/rounded ops/norm ops/conv_oracle train/moments"

# column NUMBER < ROW
column() { cut -d '|' -f "$1" | sed 's/^ *//; s/ *$//'; }
row() { table | grep "^$1 *|"; }
names() { table | grep -v '^#' | grep -E "$1" | cut -d ' ' -f 1; }

# Debian keeps wine64 and lld's Windows linker off the PATH.
find_wine() {
    for wine in "$(command -v wine64)" "$(command -v wine)" /usr/lib/wine/wine64; do
        [ -n "$wine" ] && [ -x "$wine" ] && echo "$wine" && return
    done
    echo wine64
}
launcher() {
    case $1 in
    WINE) find_wine ;;
    NODE)
        # While a module runs for long, node 20 throws away the bytecode of the JavaScript that called it, and crashes
        # when the module returns.
        flags="--no-warnings --no-flush-bytecode"
        # Older versions of node want to be asked for wasi.
        node --experimental-wasi-unstable-preview1 -e 0 2> /dev/null && flags="$flags --experimental-wasi-unstable-preview1"
        echo "node $flags tests/wasm.mjs"
        ;;
    *) echo "$1" ;;
    esac
}
llvm() { echo "$(dirname "$(readlink -f "$(command -v clang-19)")")/$1"; }

# ---- one target ----------------------------------------------------------------------------

# compile SOURCE PROGRAM FLAG...; in two steps, since clang with -O may run whatever wasm-opt is on the PATH
compile() {
    source=$1 program=$2
    shift 2
    # shellcheck disable=SC2086
    $compiler ${how:-$common} $flags "$@" -c "$source" -o "$program.o" || return
    rm -f "$program"
    # shellcheck disable=SC2086
    $compiler "$program.o" -o "$program" $libraries
}

# Microsoft's front end of clang, as C and as C++, without GNU attributes where they are not needed; no runtime, no C
# library, but with the instruction sets that such a build of an application has
compile_msvc() {
    source=$1 program=$2
    shift 2
    case ${how:-} in *=fast*) contract=fast ;; *) contract=off ;; esac
    windows="--target=x86_64-pc-windows-msvc /c /O2 /W4 /WX /GS- -Werror=vla -Xclang -ffreestanding"
    # Frames over a page call __chkstk, of the runtime that is not there: no such calls, and the linker commits the stack.
    windows="$windows /clang:-mno-stack-arg-probe -DBITS_BARE -DSSM_MEMCPY=memcpy -DSSM_MEMSET=memset"
    printf 'LIBRARY KERNEL32.dll\nEXPORTS\nGetStdHandle\nWriteFile\nExitProcess\n' > "$program.def"
    "$(llvm llvm-dlltool)" -m i386:x86-64 -d "$program.def" -l "$program.lib" || return
    for language in "/TP /std:c++14" /TC; do # the last one is run
        # shellcheck disable=SC2086
        $compiler $windows $language -Xclang -ffp-contract=$contract "$@" "$source" "/Fo$program.o" || return
        # shellcheck disable=SC2086
        $compiler $windows $language -DSSM_NO_LIBC "-D__attribute__(x)=@no" -Xclang -ffp-contract=$contract "$@" \
            "$source" "/Fo$program.no.o" || return
    done
    "$(llvm lld-link)" /entry:entry /subsystem:console /stack:1048576,1048576 /nodefaultlib "$program.o" "$program.lib" "/out:$program"
}

# Is there a compiler that makes programs, and something that runs them?
usable() {
    : > "$out/$name/usable"
    for tool in "${compiler%% *}" ${launch:+"${launch%% *}"}; do command -v "$tool" > /dev/null || return; done
    case $name in
    msvc) [ -x "$(llvm lld-link)" ] && [ -x "$(llvm llvm-dlltool)" ] ;;
    wasm-bare) command -v wasm-ld-19 ;;
    *)
        printf '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n' > "$out/$name/hello.c"
        compile "$out/$name/hello.c" "$out/$name/hello.$suffix" && $launch "$out/$name/hello.$suffix" | grep hello
        ;;
    esac > "$out/$name/usable" 2>&1
}

# The packages of this row that are not installed; where nobody can say, all of them.
missing() {
    lacking=""
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q ' installed' || lacking="$lacking $package"
    done
    echo "${lacking# }"
}

fail() {
    echo "FAIL target/$name ($1)"
    exit 0
}

# same_bits BUILD THERE HERE: every part of what the target printed is what the same family printed here, and it printed
# the line that ends every instruction set it has to have. Else what is wrong is in THERE.differs.
same_bits() {
    tr -d '\r' < "$2" | awk -v sets="$(instruction_sets "$name" "$1")" -v target="$name" '
        $1 == "bits" && NF == 3 { # hashes of the two families alone; 0: it has none, but msvc has both
            compared += 1
            if ($2 != all["plain"]) print "plain " $2 ", not " all["plain"]
            if (($3 !~ /^0*$/ || target == "msvc") && "fused" in all && $3 != all["fused"])
                print "fused " $3 ", not " all["fused"]
            next
        }
        $1 == "FAILED:" { print }
        NF < 4 {
            if (FNR == NR) all[$1] = $3
            else if ($3 ~ /^[0-9a-f]+$/) done[$2] = 1
            next
        }
        {
            name = $4
            for (i = 5; i <= NF; ++i) name = name " " $i
        }
        FNR == NR { part[$1, name] = $3; next }
        !($1 in all) { next }
        { compared += 1 }
        part[$1, name] != $3 && !(($1, name) in told) {
            told[$1, name] = 1
            print $1 ", " $2 ": " name
        }
        END {
            if (!compared) print "nothing to compare"
            for (i = split(sets, set, " "); i > 0; --i) {
                if (!(set[i] in done)) print "no bits of " set[i]
                delete done[set[i]]
            }
            for (i in done) if (sets != "") print "bits of " i ", which was not expected"
        }
    ' "$3" - > "$2.differs"
    [ ! -s "$2.differs" ]
}

# Builds and runs tests/bits.c for the target in every way, and compares.
check_bits() {
    builds "$name" > "$dir/builds"
    while read -r build precisions how; do
        for precision in $(echo "$precisions" | tr ',' ' '); do
            [ $precision = float ] && define="" || define=-DSSM_DOUBLE
            program=$dir/bits-$build-$precision.$suffix
            case $name in
            msvc) compile_msvc tests/bits.c "$program" $define ;;
            wasm-bare)
                libraries="-nostdlib -Wl,--no-entry -Wl,--export=bits_all -Wl,--strip-all"
                # shellcheck disable=SC2086
                compile tests/bits.c "$program" $warnings -DSSM_NO_LIBC -ffreestanding $define
                ;;
            # shellcheck disable=SC2086
            *) compile tests/bits.c "$program" $warnings $define ;;
            esac > "$dir/log" 2>&1 < /dev/null || { cat "$dir/log"; fail "tests/bits.c does not build ($build)"; }
            $launch "$program" --parts > "$dir/bits" 2> "$dir/log" < /dev/null
            status=$?
            if ! same_bits $build "$dir/bits" "$out/bits-$precision" || [ $status != 0 ]; then
                sed "s/^/    /" "$dir/bits.differs"
                cat "$dir/log"
                echo "FAIL target/$name-bits-$build-$precision (exit status $status, $(wc -l < "$dir/bits.differs") differ)"
                continue
            fi
            echo "ok   target/$name-bits-$build-$precision"
            [ $build != off ] || cp "$dir/bits" "$dir/bits-off"
        done
    done < "$dir/builds"
    how=""
    # Of the model: that of scalar kernels with contraction off.
    family=$(tr -d '\r' < "$dir/bits-off" | awk 'NF == 3 && $2 == "scalar" { print $1 }')
}

# seconds VARIABLE: of processor time that programs of this shell have taken, here and in the system. Not by $(...), a
# shell of its own, which has called none
seconds() {
    times > "$dir/times"
    eval "$1=$(awk 'NR == 2 { split($1, u, "m"); split($2, s, "m"); printf "%d", u[1] * 60 + u[2] + s[1] * 60 + s[2] }' \
        "$dir/times")"
}

check() {
    name=$1 all=${2:-}
    line=$(row "$name")
    [ -n "$line" ] || { echo "check_targets.sh: no target $name" >&2; exit 2; }
    compiler=$(echo "$line" | column 3) flags=$(echo "$line" | column 4) tests=$(echo "$line" | column 6)
    packages=$(echo "$line" | column 7) launch=$(launcher "$(echo "$line" | column 5)")
    dir=$out/$name suffix=elf libraries=-lm
    case $name in
    mingw | msvc) suffix=exe ;;
    was*) suffix=wasm ;;
    tcc) warnings=-Wall ;;
    esac
    [ $name != wasi ] || libraries="-lm -lwasi-emulated-process-clocks" # speaker's clock()
    rm -rf "$dir"
    mkdir -p "$dir"
    trap 'rm -rf "$dir"' EXIT

    if ! usable; then
        needs=$(missing)
        if [ -z "$needs" ]; then
            cat "$dir/usable"
            fail "a program of one line does not build and run"
        fi
        [ "${SSM_TARGETS_STRICT:-0}" = 0 ] || fail "needs $needs"
        echo "skip target/$name (needs $needs)"
        return
    fi

    check_bits
    seconds bits_done
    case $tests in
    laws | bits)
        echo "     target/$name: bits $bits_done s"
        return
        ;;
    esac

    how="-std=c99 -O1 -ffp-contract=off"
    # shellcheck disable=SC2086
    compile examples/speaker.c "$dir/speaker.$suffix" $warnings -DSSM_NO_SIMD > "$dir/log" 2>&1 ||
        { cat "$dir/log"; fail "examples/speaker.c does not build"; }
    $launch "$dir/speaker.$suffix" --load $out/model --model "$dir/model" > "$dir/log" 2>&1
    cmp "$out/model-$family" "$dir/model" || { tail -n 5 "$dir/log"; fail "another model file"; }
    seconds model_done

    # shellcheck disable=SC2086
    compile tests/ssm_test.c "$dir/ssm_test.$suffix" $warnings > "$dir/log" 2>&1 ||
        { cat "$dir/log"; fail "tests/ssm_test.c does not build"; }
    seconds tests_built
    set --
    if [ "$tests" != all ] && [ "$all" != all ]; then
        for test in $slow; do set -- "$@" "!$test"; done
        # shellcheck disable=SC2086
        [ "$tests" = quick ] || set -- $brief "$@"
    fi
    # The result is the last line: some launchers exit with 0 whatever happens.
    $launch "$dir/ssm_test.$suffix" "$@" > "$dir/log" 2>&1
    status=$?
    last=$(tail -n 1 "$dir/log" | tr -d '\r')
    case $last in
    [1-9]*' passed, 0 failed') [ $status = 0 ] || fail "exit status $status" ;;
    *)
        grep -v '^ok ' "$dir/log" | tail -n 20
        fail "$last"
        ;;
    esac
    echo "ok   target/$name ($last; model, $family)"
    seconds tests_done
    echo "     target/$name: bits $bits_done s, model $((model_done - bits_done)) s, tests built in" \
        "$((tests_built - model_done)) s and run in $((tests_done - tests_built)) s"
}

# ---- all targets ----------------------------------------------------------------------------

wanted="[|] ci "
case ${1:-} in
packages)
    for name in $(names "$wanted"); do row "$name" | column 7; done | tr ' ' '\n' | sort -u | xargs
    exit
    ;;
"") set -- ;;
all) wanted=. ;;
*)
    only=$1
    [ -n "$(row "$only")" ] || { echo "check_targets.sh: no target $only" >&2; exit 2; }
    shift
    set -- "${1:-}"
    ;;
esac

# As the last lines of this file call it, for one target.
if [ -n "${SSM_TARGETS_INSIDE:-}" ]; then
    check "$only" "${1:-}"
    exit
fi

mkdir -p $out
trap 'stop_wine; rm -rf $out' EXIT
# A wine of our own: it makes itself a home of 700 MB, and its server outlives its programs for a moment.
WINEPREFIX=$PWD/$out/wine WINEDEBUG=-all
export WINEPREFIX WINEDEBUG
stop_wine() {
    [ -d "$WINEPREFIX" ] || return
    server=$(command -v wineserver || echo /usr/lib/wine/wineserver64)
    [ -x "$server" ] && "$server" -k -w
}
if command -v "$(find_wine)" > /dev/null; then "$(find_wine)" cmd /c exit > /dev/null 2>&1; fi

# Names that `slow` and `brief` call are names of tests, so that none is left in or out unseen.
for test in $slow; do
    grep -q "^ *{\"$test\"," tests/test_*.c || { echo "FAIL target/lists (slow: no test $test)"; exit 1; }
done
for test in $brief; do
    grep -q "^ *{\".*$test" tests/test_*.c || { echo "FAIL target/lists (brief: no test $test)"; exit 1; }
done

# What every target must reproduce: both families, where this machine has multiply-add. Scalar kernels, which define
# the bits and take a fifth of the time to compile.
reference() { # FAMILY PRECISION
    [ $1 = plain ] && flags=-DSSM_PLAIN || flags=-march=native
    [ $2 = float ] && define="" || define=-DSSM_DOUBLE
    # shellcheck disable=SC2086
    ${CC:-cc} $common $flags $define -DSSM_NO_SIMD tests/bits.c -o $out/bits-$1-$2 -lm &&
        $out/bits-$1-$2 --parts scalar > $out/bits-$1-$2.parts
}
model() { # FAMILY
    # shellcheck disable=SC2086
    ${CC:-cc} $common $flags -DSSM_NO_SIMD examples/speaker.c -o $out/speaker -lm &&
        { [ -f $out/model ] || $out/speaker --model $out/model > $out/log; } &&
        $out/speaker --load $out/model --model $out/model-$1 > $out/log || { cat $out/log; exit 1; }
}
${CC:-cc} -I. -O0 -DHEADER='"ssm.h"' tests/compile/isas.c -o $out/isas-here && $out/isas-here > $out/isas &
for family in plain fused; do
    reference $family float &
    reference $family double || exit
    model $family
done
wait
for precision in float double; do # an x86-64 without multiply-add is plain again: the same lines
    cat $out/bits-plain-$precision.parts $out/bits-fused-$precision.parts > $out/bits-$precision || exit
done
[ -s $out/isas ] || exit

for name in ${only:-$(names "$wanted")}; do echo "$name ${1:-ci}"; done |
    SSM_TARGETS_INSIDE=1 xargs -n 2 -P "${JOBS:-2}" sh tests/check_targets.sh
