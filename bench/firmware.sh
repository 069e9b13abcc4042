#!/bin/sh
# firmware.sh - instructions, RAM and stack of one step on microcontrollers, under QEMU.
#
#   firmware.sh [BOARD...]                       a Markdown table; of both families where there is an FPU
#   firmware.sh --ram                            state and scratch of one step of every layer
#   firmware.sh --profile BOARD LAYER FORMAT     where the instructions of a step go
#   firmware.sh --raw BOARD LAYER FORMAT WAY     what the program prints (bench/firmware.c)
#
# LAYER is s6 or mamba, FORMAT real, bf16 or int8, WAY exact, plain (SSM_PLAIN) or small
# (SSM_ONLY_EULER, SSM_ONLY_REAL, SSM_TILE_ROWS 1).
cd "$(dirname "$0")/.." || exit
. examples/firmware/boards.sh

tables() {
    folder=build/firmware/bench/${family:=plain}
    stale $folder/tables bench/firmware.c ssm.h || return 0
    for table in s6_real s6_bf16 s6_int8 mamba_real mamba_bf16 mamba_int8; do mkdir -p $folder/$table; done
    # shellcheck disable=SC2046
    ${CC:-cc} -O2 -std=c99 -ffp-contract=off $(host_flags $family) bench/firmware.c -o $folder/tables.new &&
        $folder/tables.new $folder && mv $folder/tables.new $folder/tables
}

build() { # BOARD LAYER FORMAT WAY
    library "$1" "$4" && tables || return
    image=build/firmware/$1/$2-$3-$4.elf
    program "$image" "build/firmware/bench/$family/$2_$3" bench/firmware.c
}

# The board's counter; QEMU is killed should the program hang.
raw() { build "$@" && timeout 120 $qemu "$image" < /dev/null; }

# Linked whole: for what --gc-sections drops, the debugger's tables would claim the lowest addresses.
profile() { # BOARD LAYER FORMAT
    plugin=build/firmware/profile.so counts=build/firmware/profile.txt
    build "$1" "$2" "$3" exact && ${CC:-cc} -O2 -shared -fPIC bench/qemu/profile.c -o $plugin || return
    link=${link%,--gc-sections} libgcc=-lgcc
    program "$image" "build/firmware/bench/$family/$2_$3" bench/firmware.c
    timeout 120 $qemu "$image" -plugin "$plugin,out=$counts" < /dev/null > /dev/null
    # For each address the function, and the chain of those that it was inlined into; 100 steps.
    awk '{ print "0x" $1 }' $counts | "${tool}addr2line" -a -i -f -e "$image" |
        awk '/^0x/ { if (inner) print inner, outer; inner = ""; next }
            !/[:?\/]/ { if (!inner) inner = $1; outer = $1 }
            END { print inner, outer }' | paste -d ' ' - $counts |
        awk '$1 ~ /^ssm/ { name = $1 == $2 ? $1 : $1 " in " $2; sum[name] += $4; all += $4 }
            END { for (f in sum) if (sum[f] >= 0.001 * all) printf "%9.0f %6.1f %%  %s\n", sum[f] / 100, 100 * sum[f] / all, f
                  printf "%9.0f          all\n", all / 100 }' | sort -n -r
}

case ${1:-} in
--raw) shift; raw "$@"; exit ;;
--ram) tables && build/firmware/bench/plain/tables --ram; exit ;;
--profile) shift; profile "$@"; exit ;;
esac

echo "| core | layer | weights | instructions a step | with SSM_PLAIN | flash, weights | state | scratch | stack |"
echo "|---|---|---|--:|--:|--:|--:|--:|--:|"
for name in ${@:-$boards}; do
    missing=$(needs "$name")
    if [ -n "$missing" ]; then
        echo "firmware: $name is left out: it needs the package $missing" >&2
        continue
    fi
    board "$name"
    for layer in s6 mamba; do
        for format in real bf16 int8; do
            all=$(raw "$name" $layer $format exact) || exit
            plain=-
            if [ $float = hard ]; then plain=$(raw "$name" $layer $format plain) || exit; fi
            echo "$name $layer $format ${plain%% *} $all ${plain##* }"
        done
    done
done | awk '{ printf "| %s | %s | %s | %d | %s | %d | %d | %d | %d |\n", $1, $2, $3, $5, $4, $7, $8, $9, $10
    if ($11 != "same" || $12 == "other") { print "firmware: other bits than on the desktop" > "/dev/stderr"; wrong = 1 } } END { exit wrong }'
