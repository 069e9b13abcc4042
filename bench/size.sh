#!/bin/sh
# size.sh - flash and RAM that each verb of each layer takes on each core.
#
#   size.sh [CORE...]           a Markdown table
#   size.sh --small [CORE...]   of the step of S6 and Mamba with SSM_ONLY_EULER, SSM_ONLY_REAL and SSM_TILE_ROWS 1
#   size.sh --raw [CORE...]     one line for each verb: core layer verb flash libgcc ram missing symbols
#
# A program that calls one verb, linked with --gc-sections: flash is the .text and .rodata of the library, libgcc
# the bytes that its arithmetic adds, ram .data and .bss, missing the routines that the compiler calls (commas
# between), symbols all functions that stayed. No start-up code; memcpy and memset, which GCC may call for
# struct copies in any program, come from there. gcc -O2, SSM_ALIGN 8.
cd "$(dirname "$0")/.." || exit
. examples/firmware/boards.sh
cores="m0 m3 m4f m7 m33 m55 rv32imc"
layers="selective s6 mamba mamba2 mamba3 s4d s4 s5 rglru"
verbs="bind attach forward step record+backward init"
out=build/firmware/size
mkdir -p $out

# sections PROGRAM NAME...: bytes of these sections
sections() {
    program=$1
    shift
    "${tool}size" -A "$program" | awk -v names=" $* " 'index(names, " " $1 " ") { sum += $2 } END { print sum + 0 }'
}

measure() { # CORE LAYER VERB
    program=$out/$1-$2-$3
    roots=""
    for verb in $(echo "$3" | tr + ' '); do roots="$roots -Wl,-u,ssm_$2_$verb -Wl,-e,ssm_$2_$verb"; done
    # shellcheck disable=SC2086
    missing=$("${tool}gcc" $cpu -nostdlib $link -Wl,-S,--warn-unresolved-symbols $roots "$object" -o "$program" 2>&1 |
        sed -n "s/.*undefined reference to [\`']\(.*\)'.*/\1/p" | sort -u | grep -v -E '^mem(cpy|set)$' | paste -s -d, -)
    flash=$(sections "$program" .text)
    libgcc=0
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086
        "${tool}gcc" $cpu -nostdlib $link -Wl,-S,--warn-unresolved-symbols $roots "$object" -lgcc \
            -o "$program-libgcc" 2> /dev/null
        libgcc=$(($(sections "$program-libgcc" .text) - flash))
    fi
    symbols=$("${tool}nm" "$program" | awk '$2 ~ /^[tT]$/ { sub(/\..*/, "", $3); print $3 }' | grep ^ssm | sort -u | paste -s -d, -)
    echo "$1 $2 $3 $flash $libgcc $(sections "$program" .data .bss) ${missing:--} $symbols"
}

raw() {
    packages=""
    for core in "$@"; do # all that is missing in one line, before anything is built
        board "$core"
        command -v "${tool}gcc" > /dev/null || case " $packages " in *" $package "*) ;; *) packages="$packages $package" ;; esac
    done
    [ -z "$packages" ] || echo "size: some cores are left out, which need the packages$packages" >&2
    for core in "$@"; do
        board "$core"
        command -v "${tool}gcc" > /dev/null || continue
        library "$core" $way || exit
        for layer in $layers; do
            for verb in $verbs; do measure "$core" "$layer" "$verb"; done
        done
    done
}

way=exact
case ${1:-} in
--small) shift; way=small layers="s6 mamba" verbs=step out=$out-small; mkdir -p $out ;;
--raw) shift; raw ${@:-$cores}; exit ;;
esac
raw ${@:-$cores} | awk '
    !($1 in core) { core[$1] = ++cores; name[cores] = $1 }
    !(($2, $3) in row) { row[$2, $3] = ++rows; title[rows] = $2 " | " $3 }
    { cell[row[$2, $3], core[$1]] = $5 > 0 ? $4 " + " $5 : $4; ram += $6 }
    END {
        line = "| layer | verb |"
        rule = "|---|---|"
        for (c = 1; c <= cores; ++c) { line = line " " name[c] " |"; rule = rule "--:|" }
        print line; print rule
        for (r = 1; r <= rows; ++r) {
            line = "| " title[r] " |"
            for (c = 1; c <= cores; ++c) line = line " " cell[r, c] " |"
            print line
        }
        print "\n.data and .bss of all these: " ram + 0 " bytes"
    }'
