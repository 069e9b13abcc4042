#!/bin/sh
# check_targets.sh - builds the tests for other processors, systems and compilers, runs them there through
# a launcher, and compares every bit. JOBS targets at a time.
#
#   check_targets.sh              the rows of the table below for CI
#   check_targets.sh all          every row, and no test left out: about an hour on two cores
#   check_targets.sh NAME         one row        check_targets.sh NAME all
#   check_targets.sh packages     the Debian packages that the rows for CI need
#
# For each target, in one line, what passed:
#   tests     tests/ssm_test.c, with the same warnings and tolerances as everywhere
#   bits      tests/bits.c in float and in double gives the hashes of this machine's own compiler
#   model     examples/speaker.c reads a model file written here, streams every recording, and saves the
#             same bytes
# A target whose tools are missing is skipped, with the packages it needs. With SSM_TARGETS_STRICT=1 it
# has failed.
set -u
out=build/targets
common="-std=c99 -O2 -ffp-contract=off"
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"

# GCC for s390x computes float in double unless told otherwise, GCC for i386 in the x87's registers unless
# told to use SSE. armv7 has NEON there, but float arithmetic is VFP's, which keeps subnormal numbers.
# Tests: all; quick, where a run of all takes minutes: without those of `slow` below; brief, where that takes
# minutes too: those that `brief` names, all golden vectors and oracles among them. tcc has no complex
# numbers: there the runner leaves the oracles of S4 and S5 out. msvc and wasm-bare are programs without a C
# library: bits alone.
table() {
    cat << 'END'
# name      | when  | compiler, with what its linker needs      | more flags for compiling | launcher    | tests | packages
aarch64     | ci    | aarch64-linux-gnu-gcc -static             |                          | qemu-aarch64 | quick | qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
armv7       | ci    | arm-linux-gnueabihf-gcc -static           | -mfpu=neon               | qemu-arm    | quick | qemu-user gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
riscv64     | ci    | riscv64-linux-gnu-gcc -static             |                          | qemu-riscv64 | brief | qemu-user gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
s390x       | ci    | s390x-linux-gnu-gcc -static               | -fexcess-precision=fast  | qemu-s390x  | brief | qemu-user gcc-s390x-linux-gnu libc6-dev-s390x-cross
i386        | ci    | gcc-12 -m32 -static                       | -msse2 -mfpmath=sse      |             | all   | gcc-12 gcc-12-multilib
musl        | ci    | musl-gcc -static                          |                          |             | all   | musl-tools gcc
mingw       | ci    | x86_64-w64-mingw32-gcc -static            |                          | WINE        | all   | gcc-mingw-w64-x86-64-win32 wine64
wasi        | ci    | clang-19 --target=wasm32-wasi             | -D_WASI_EMULATED_PROCESS_CLOCKS | NODE        | all   | clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 nodejs
msvc        | ci    | clang-19 --driver-mode=cl                 |                          | WINE        | bits  | clang-19 lld-19 llvm-19 wine64
wasm-bare   | ci    | clang-19 --target=wasm32                  |                          | NODE        | bits  | clang-19 lld-19 nodejs
tcc         | ci    | tcc                                       |                          |             | quick | tcc
gcc-11      | ci    | gcc-11                                    |                          |             | quick | gcc-11
gcc-12      | all   | gcc-12                                    |                          |             | all   | gcc-12
clang-13    | ci    | clang-13                                  |                          |             | quick | clang-13
clang-14    | all   | clang-14                                  |                          |             | all   | clang-14
clang-16    | all   | clang-16                                  |                          |             | all   | clang-16
clang-19    | ci    | clang-19                                  |                          |             | all   | clang-19
clang-22    | all   | clang-22                                  |                          |             | all   | clang-22
ppc64       | all   | powerpc64-linux-gnu-gcc -static           |                          | qemu-ppc64  | all   | qemu-user gcc-powerpc64-linux-gnu libc6-dev-ppc64-cross
mips        | all   | mips-linux-gnu-gcc -static                |                          | qemu-mips   | all   | qemu-user gcc-mips-linux-gnu libc6-dev-mips-cross
END
}
slow="bound/alignment bound/attach_errors bound/errors bound/split layers/alignment layers/errors layers/gradients
    layers/gradients_added layers/gradients_optional layers/parallel layers/split layers/strides
    ops/scan_time_parallel s5/layer_gradients scan/primes scan/s5_layer scan/shapes scan/threads scan/threads_s4"
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
        flags=--no-warnings # older versions of node want to be asked for wasi
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
    $compiler $common $flags "$@" -c "$source" -o "$program.o" || return
    rm -f "$program"
    # shellcheck disable=SC2086
    $compiler "$program.o" -o "$program" $libraries
}

# Microsoft's front end of clang, as C and as C++, without GNU attributes; no runtime, no C library
compile_msvc() {
    source=$1 program=$2
    shift 2
    windows="--target=x86_64-pc-windows-msvc /c /O2 /W4 /WX /GS- /DSSM_NO_LIBC -Werror=vla -D__attribute__(x)=@no"
    printf 'LIBRARY KERNEL32.dll\nEXPORTS\nGetStdHandle\nWriteFile\nExitProcess\n' > "$program.def"
    "$(llvm llvm-dlltool)" -m i386:x86-64 -d "$program.def" -l "$program.lib" || return
    for language in "/TP /std:c++14" /TC; do # the last one is run
        # shellcheck disable=SC2086
        $compiler $windows $language -Xclang -ffp-contract=off "$@" "$source" "/Fo$program.o" || return
    done
    "$(llvm lld-link)" /entry:entry /subsystem:console /nodefaultlib "$program.o" "$program.lib" "/out:$program"
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

# What a program printed is what this machine's own compiler gives; Windows ends lines with CR LF.
same_bits() { tr -d '\r' < "$1" | diff - "$2" > "$1.differs"; }

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

    for precision in float double; do
        [ $precision = float ] && define="" || define=-DSSM_DOUBLE
        want=$out/bits-$precision program=$dir/bits-$precision.$suffix
        case $name in
        msvc) compile_msvc tests/bits.c "$program" $define ;;
        wasm-bare)
            libraries="-nostdlib -Wl,--no-entry -Wl,--export=bits_all -Wl,--strip-all"
            # shellcheck disable=SC2086
            compile tests/bits.c "$program" $warnings -DSSM_NO_LIBC -ffreestanding $define
            ;;
        # shellcheck disable=SC2086
        *) compile tests/bits.c "$program" $warnings $define ;;
        esac > "$dir/log" 2>&1 || { cat "$dir/log"; fail "tests/bits.c does not build"; }
        $launch "$program" > "$dir/bits" 2> "$dir/log"
        if [ "$tests" = bits ]; then
            tail -n 1 "$want" > "$dir/want"
            want=$dir/want
        fi
        same_bits "$dir/bits" "$want" || { cat "$dir/bits.differs" "$dir/log"; fail "other bits in $precision"; }
    done
    bits="bits $(tail -n 1 "$out/bits-float" | cut -d ' ' -f 2) $(tail -n 1 "$out/bits-double" | cut -d ' ' -f 2)"
    if [ "$tests" = bits ]; then
        echo "ok   target/$name ($bits)"
        return
    fi

    # shellcheck disable=SC2086
    compile examples/speaker.c "$dir/speaker.$suffix" $warnings > "$dir/log" 2>&1 ||
        { cat "$dir/log"; fail "examples/speaker.c does not build"; }
    $launch "$dir/speaker.$suffix" --load $out/model --model "$dir/model" > "$dir/log" 2>&1
    cmp $out/model "$dir/model" || { tail -n 5 "$dir/log"; fail "another model file"; }

    # shellcheck disable=SC2086
    compile tests/ssm_test.c "$dir/ssm_test.$suffix" $warnings > "$dir/log" 2>&1 ||
        { cat "$dir/log"; fail "tests/ssm_test.c does not build"; }
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
    echo "ok   target/$name ($last; $bits; model)"
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

# What every target must reproduce.
for precision in float double; do
    [ $precision = float ] && define="" || define=-DSSM_DOUBLE
    # shellcheck disable=SC2086
    ${CC:-cc} $common $define tests/bits.c -o $out/bits -lm && $out/bits > $out/bits-$precision || exit
done
# shellcheck disable=SC2086
${CC:-cc} $common examples/speaker.c -o $out/speaker -lm && $out/speaker --model $out/model > $out/log ||
    { cat $out/log; exit 1; }

for name in ${only:-$(names "$wanted")}; do echo "$name ${1:-ci}"; done |
    SSM_TARGETS_INSIDE=1 xargs -n 2 -P "${JOBS:-2}" sh tests/check_targets.sh
