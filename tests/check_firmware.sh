#!/bin/sh
# check_firmware.sh - the library without a C library: compiles strictly for every core, each verb brings only what
# it needs, and the speaker model gives the desktop's bits on every board, under QEMU, in every format.
#
#   check_firmware.sh [CORE...]
cd "$(dirname "$0")/.." || exit
. examples/firmware/boards.sh
out=build/firmware
mkdir -p $out
# The step runs the kernels of every other verb, for any number of streams and any delta: products of one row and of
# many, the scan of near and of any exponents, a convolution of any width.
code_limit=6400  # bytes of the Mamba step on an M4F; that of S6 must be less
small_limit=5504 # the same with SSM_ONLY_EULER, SSM_ONLY_REAL and SSM_TILE_ROWS 1
stack_limit=768 # bytes that the step of either uses there: weights of INT8, the sums of a panel

expect_lines=+1 # all of it
. tests/expect.sh

# none NAME AWK: no line of the sizes of this core for which the awk condition holds; shows them
# fields: 1 core, 2 layer, 3 verb, 4 flash, 5 libgcc, 6 ram, 7 routines missing, 8 symbols
none() {
    expect "$1" awk "$2 { print; bad = 1 } END { exit bad || NR != 54 }" $out/size.txt
}

sizes() {
    inference='$3 ~ /^(bind|attach|forward|step)$/'
    sh bench/size.sh --raw "$1" > $out/size.txt
    none "firmware/$1-linked" '$4 < 300 || $8 == ""'
    none "firmware/$1-no_ram" '$6 > 0'
    none "firmware/$1-no_double" "$inference && \$7 ~ /__aeabi_(d|cd|[a-z]+2d)|df/"
    if [ $float = hard ]; then none "firmware/$1-no_routines" "$inference && \$7 != \"-\""; fi
    none "firmware/$1-s6_step_alone" '$2 == "s6" && $3 == "step" && $8 !~ /ssm_s6_step/'
    none "firmware/$1-s6_step_only" '$2 == "s6" && $3 == "step" &&
        $8 ~ /mamba|s4|s5|selective|conv|norm|chunk|fft|hippo|adamw|tape|_(bind|attach|forward|record|backward|init|sizes|pack|resolve)/'
    if [ "$1" = m4f ]; then
        none "firmware/m4f-mamba_step_code" "\$2 == \"mamba\" && \$3 == \"step\" && \$4 > $code_limit"
        none "firmware/m4f-s6_step_code" "\$2 == \"mamba\" && \$3 == \"step\" { mamba = \$4 }
            \$2 == \"s6\" && \$3 == \"step\" { s6 = \$4 } NR == 54 && s6 >= mamba"
    fi
}

# The Mamba step without what it does not use: one column of a table, for the M4F.
small() {
    sh bench/size.sh --small m4f | awk -F '|' -v limit=$small_limit '
        { print } $2 ~ /mamba/ { good = $4 > 1000 && $4 + 0 <= limit } END { exit !good }'
}

# One step of each layer: the desktop's bits, state of D x N floats, and a stack that does not depend on the model.
bench() { # BOARD LAYER FORMAT WAY
    sh bench/firmware.sh --raw "$@" | awk -v limit=$stack_limit '
        { print; good = $4 >= 8192 && $5 < 1024 && $6 <= limit && $7 == "same" } END { exit !good }'
}

for core in ${@:-$boards rv32imc}; do
    missing=$(needs "$core")
    if [ -n "$missing" ]; then
        echo "skip firmware/$core (needs $missing)"
        continue
    fi
    expect "firmware/$core-compiles" library "$core" || continue
    sizes "$core"
    case " $boards " in *" $core "*) ;; *) continue ;; esac
    for format in real bf16 int8; do
        expect "firmware/$core-speaker-$format" sh examples/firmware/run.sh "$core" $format
    done
    if [ "$core" = m4f ]; then
        for format in real bf16 int8; do
            for layer in s6 mamba; do expect "firmware/$core-$layer-$format" bench "$core" $layer $format exact; done
        done
        expect "firmware/$core-mamba-small" bench "$core" mamba real small
        expect "firmware/$core-mamba_step_small" small
    fi
done
