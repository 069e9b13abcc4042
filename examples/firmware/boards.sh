# boards.sh - the boards and cores, for the scripts that read it with `.`
#
#   board NAME     sets tool (its prefix), package, cpu, float (soft or hard), family, link, libgcc and qemu for it
#   needs NAME     prints the package that is missing for it, if any
#
# Addresses: QEMU's documentation of the microbit, mps2 and mps3 boards. On the M33 they are those of the
# secure world, in which that core starts. QEMU's counter ticks in 62.5 ns (microbit), 40 ns (an385, an386,
# an500), 50 ns (an505) and 31.25 ns (an547): tick is that in quarter nanoseconds.
boards="m0 m3 m4f m7 m33 m55 rv32imac rv32imafc"
here=examples/firmware

arm() { # MACHINE CPU TICK FLASH RAM
    tool=arm-none-eabi- package=gcc-arm-none-eabi emulator=qemu-system-arm emulator_package=qemu-system-arm
    cpu="-mthumb $2" start="$here/cortex_m.c -DBOARD_TICK=$3"
    link="-Wl,--defsym=FLASH_AT=${4%,*},--defsym=FLASH_SIZE=${4#*,},--defsym=RAM_AT=${5%,*},--defsym=RAM_SIZE=${5#*,}"
    script=$here/cortex_m.ld
    qemu="$emulator -M $1 -display none -monitor none -serial none -icount shift=6
        -chardev stdio,id=text -semihosting-config enable=on,target=native,chardev=text -kernel"
}

riscv() { # ARCHITECTURE ABI
    tool=riscv64-unknown-elf- package=gcc-riscv64-unknown-elf
    emulator=qemu-system-riscv32 emulator_package=qemu-system-misc
    # by the specification of 2.2 the counters belong to the base set: no multilib has zicsr
    cpu="-misa-spec=2.2 -march=$1 -mabi=$2 -mcmodel=medany" start=$here/riscv.c
    link="-Wl,--defsym=FLASH_AT=0x80000000,--defsym=FLASH_SIZE=4M,--defsym=RAM_AT=0x80400000,--defsym=RAM_SIZE=4M"
    script=$here/riscv.ld
    qemu="$emulator -M virt -bios none -display none -monitor none -serial stdio -icount shift=0 -kernel"
}

board() {
    case $1 in
    m0) arm microbit "-mcpu=cortex-m0 -mfloat-abi=soft" 250 0,256K 0x20000000,16K ;;
    m3) arm mps2-an385 "-mcpu=cortex-m3 -mfloat-abi=soft" 160 0,4M 0x20000000,4M ;;
    m4f) arm mps2-an386 "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16" 160 0,4M 0x20000000,4M ;;
    m7) arm mps2-an500 "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16" 160 0,4M 0x20000000,4M ;;
    m33) arm mps2-an505 "-mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16" 200 0x10000000,4M 0x38000000,4M ;;
    m55) arm mps3-an547 "-mcpu=cortex-m55 -mfloat-abi=hard -mfpu=auto" 125 0,512K 0x20000000,512K ;;
    rv32imc) riscv rv32imc ilp32 ;;
    rv32imac) riscv rv32imac ilp32 ;;
    rv32imafc) riscv rv32imafc ilp32f ;;
    *) return 1 ;;
    esac
    case $cpu in
    *soft* | *ilp32\ *) float=soft libgcc=-lgcc family=plain ;;
    *) float=hard libgcc="" family=fused ;; # each of these FPUs multiplies and adds with one rounding
    esac
    link="$link,--defsym=STACK_SIZE=4K,-T,$script,--gc-sections"
}

needs() {
    board "$1"
    command -v "${tool}gcc" > /dev/null || { echo "$package"; return; }
    command -v "$emulator" > /dev/null || echo "$emulator_package"
}

warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wdouble-promotion -Werror"
freestanding="-std=c99 -ffreestanding -fno-builtin -ffunction-sections -fdata-sections -g"
exact="-O2 -ffp-contract=off"

# stale MADE FROM...: it is not there, or older than a file or folder that it is made from
stale() {
    made=$1
    shift
    [ ! -f "$made" ] || [ -n "$(find "$@" -newer "$made" | head -n 1)" ]
}

# library NAME [WAY]: the library for that board, build/firmware/NAME/ssm-WAY.o. WAY: exact; plain, of that family
# where there is an FPU, too; small, without what a Mamba block with float weights does not use
library() {
    board "$1" || return
    case ${2:-exact} in
    exact) flags=$exact ;;
    plain) flags="$exact -DSSM_PLAIN" family=plain ;;
    small) flags="$exact -DSSM_ONLY_EULER -DSSM_ONLY_REAL -DSSM_TILE_ROWS=1" ;;
    *) return 1 ;;
    esac
    object=build/firmware/$1/ssm-${2:-exact}.o
    stale "$object" ssm.h $here || return 0
    mkdir -p "build/firmware/$1"
    # shellcheck disable=SC2086
    "${tool}gcc" $cpu $freestanding $warnings $flags -c $here/ssm.c -o "$object.new" && mv "$object.new" "$object"
}

# program OUTPUT INCLUDE SOURCE: a program for the board that library made ready, with headers of the folder
# INCLUDE. Soft-float cores need the compiler's arithmetic; the others do without any library.
program() {
    # shellcheck disable=SC2086
    "${tool}gcc" $cpu $freestanding $warnings $exact -I"$2" $start "$3" "$object" -nostdlib $link $libgcc -o "$1"
}

# host_flags FAMILY: for a program of this machine with the bits of a board of that family, fused or plain
host_flags() {
    if [ "$1" = plain ]; then echo -DSSM_PLAIN; else echo -march=native; fi
}

# speaker_tables: trains the model on this machine, in the family of the board, and writes it in every format,
# build/firmware/FAMILY/FORMAT/model.h
speaker_tables() {
    folder=build/firmware/$family
    stale $folder/speaker.txt ssm.h examples/speaker.c || return 0
    mkdir -p $folder/real $folder/bf16 $folder/int8
    # shellcheck disable=SC2046
    ${CC:-cc} -O2 -std=c99 -ffp-contract=off -DSSM_ALIGN=8 $(host_flags $family) examples/speaker.c -o $folder/speaker -lm &&
        $folder/speaker --firmware $folder > $folder/speaker.new && mv $folder/speaker.new $folder/speaker.txt
}
