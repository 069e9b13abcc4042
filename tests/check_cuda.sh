#!/bin/sh
# check_cuda.sh - the CUDA section without a GPU: its kernels run on an emulator of threads (tests/emulator) against the
# CPU, every barrier of them is missed when it is left out, and nvcc compiles them for each architecture without a
# warning and without a spilled register.
# Under a sanitizer GCC sees variables as uninitialised that are not.
warnings="-Wall -Wextra -Wconversion -Wshadow -Wno-unknown-pragmas -Wno-maybe-uninitialized -Werror"
out=build/cuda
mkdir -p $out

if command -v g++ > /dev/null; then
    # Host code of an emulated device: the same templates, so the same warnings. A GPU traps where an access is not
    # aligned to its size; here a sanitizer does.
    # shellcheck disable=SC2086
    g++ -std=c++11 -O1 -fsanitize=alignment -fno-sanitize-recover=all -ffp-contract=off $warnings -DSSM_NO_SIMD \
        -DSSM__CUDA_ON_HOST -x c++ -Itests/emulator -I. -Itests tests/test_cuda.cu -o $out/test || exit
    $out/test --rounds 4 --barriers > $out/barriers.txt
    status=$?
    grep -v '^barrier ' $out/barriers.txt
    [ $status -eq 0 ] || exit $status
    # A barrier that nobody misses is not tested, or not needed.
    # First by the test that meets it first, which is quick, then by all.
    sed -n 's/^barrier //p' $out/barriers.txt > $out/lines.txt
    while read -r line name; do
        if $out/test --rounds 3 --without "$line" "$name" > $out/without.txt 2>&1 &&
            $out/test --rounds 3 --without "$line" > $out/without.txt 2>&1; then
            echo "FAIL cuda/without_barrier (line $line: $(sed -n "${line}p" ssm.h | tr -s ' '))"
        else
            echo "ok   cuda/without_barrier/$line"
        fi
    done < $out/lines.txt
    # The example's training: its losses are those of the CPU.
    if g++ -std=c++11 -O1 -w -ffp-contract=off -DSSM_NO_SIMD -DSSM__CUDA_ON_HOST -x c++ -Itests/emulator -I. \
        examples/cuda/speaker.cu -o $out/speaker && $out/speaker --steps 4; then
        echo "ok   cuda/example_trains"
    else
        echo "FAIL cuda/example_trains"
    fi
else
    echo "skip cuda/emulator (needs g++)"
fi

if ! command -v nvcc > /dev/null; then
    echo "skip cuda/nvcc (needs nvcc)"
    exit 0
fi
# The examples, to code for no card in particular, as quickly as this nvcc can.
quick=""
! nvcc --help | grep -q -- -Ofc || quick=-Ofc=max
for example in speaker decode cublas; do
    if [ $example = cublas ] && ! [ -f "$(dirname "$(command -v nvcc)")/../include/cublas_v2.h" ]; then
        echo "skip cuda/$example (needs cuBLAS)"
    elif nvcc -std=c++17 $quick -gencode=arch=compute_90,code=compute_90 -Werror all-warnings -Xcompiler -Wall -I. \
        -c examples/cuda/$example.cu -o $out/$example.o > $out/$example.txt 2>&1; then
        echo "ok   cuda/$example"
    else
        head -20 $out/$example.txt
        echo "FAIL cuda/$example"
    fi
done
targets="80 90 90a 100 120"
# What the kernels are differs between these three; what registers they get, between all five.
codes="-gencode=arch=compute_80,code=[sm_80,sm_90] -gencode=arch=compute_90a,code=sm_90a"
codes="$codes -gencode=arch=compute_100,code=[sm_100,sm_120]"
# shellcheck disable=SC2086
nvcc -std=c++17 $codes -O1 -Werror all-warnings -Xptxas -v -Xcompiler -Wall,-Wextra,-Werror -DSSM_CUDA -I. -x cu \
    -c tests/compile/implementation.c -o $out/implementation.o > $out/nvcc.txt 2>&1
status=$?
[ $status -eq 0 ] || grep -E 'error|warning' $out/nvcc.txt | head -20
for target in $targets; do
    # For Blackwell ptxas wants more than all 255 registers for the scan's adjoint, and some more for seven kernels, of few
    # rows or of complex numbers; before it, 28 bytes for the largest shape of the adjoint of chunks on sm_80; elsewhere
    # some numbers around the calls of the kernels that fold the gradients of S4D's parameters, once a call, and that
    # solve for S4's C, once a bind.
    known='ssm__cuda_s4_fold|ssm__cuda_s4_solve'
    case $target in
    80) known="$known|ssm__cuda_chunk_backILi128ELi128E" ;;
    1*) known='ssm__cuda_back_fast|ssm__cuda_conv_plainIf|ssm__cuda_scan_plainI.*Li1E|ssm__cuda_layer_norm_kernel'
        known="$known|ssm__cuda_scan_complexI|ssm__cuda_s4_solve|ssm__cuda_few_unitsILi1E"
        known="$known|ssm__cuda_line_kernelI20ssm__cuda_line_layerI12ssm__complex.*Li0E" ;;
    esac
    # ptxas names the function and its target, then what it spilled.
    spills=$(awk -v target="'sm_$target'" '/Compiling entry function/ { mine = index($0, target); name = $7 }
        mine && /spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ { print name ": " $0 }' $out/nvcc.txt)
    if [ $status -eq 0 ] && ! echo "$spills" | grep -E -v "$known" | grep -q . && grep -q "'sm_$target'" $out/nvcc.txt; then
        echo "ok   cuda/nvcc/sm_$target${spills:+ (the kernels named here spill)}"
    else
        echo "$spills"
        echo "FAIL cuda/nvcc/sm_$target"
    fi
done
