/* cublas.cu - the matrix products of cuBLAS in ssm.h, beside its own.
 *
 *   nvcc -O2 -arch=sm_90a -I. examples/cuda/cublas.cu -lcublas -o cublas && ./cublas
 *
 * SSM_CUDA_PRODUCT names a function that every product is offered to. This one hands it to cuBLAS, or declines while
 * `by_cublas` is 0. Both must agree; the times say whether it pays on your card. */
#define SSM_CUDA
#include "ssm.h"

#include <cublas_v2.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

static cublasHandle_t handle;
static int by_cublas;

/* cuBLAS counts by columns, so it computes C^T = B^T A^T. */
static ssm_status product(const ssm_cuda_product *p, void *stream)
{
    const int a_turned = p->a_k != 1, b_turned = p->b_k == 1;
    const ptrdiff_t a_row = a_turned ? p->a_k : p->a_m, b_row = b_turned ? p->b_n : p->b_k;
    const cudaDataType type = p->io == SSM_FORMAT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const cudaDataType c_type = p->c_format == SSM_FORMAT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const float one = 1, beta = p->add ? 1.0f : 0.0f;
    const int m = (int)p->m, n = (int)p->n, k = (int)p->k;
    if (!by_cublas || a_row < (a_turned ? m : k) || b_row < (b_turned ? k : n) || p->c_m < n) return SSM_ERR_CONFIG;
    if (cublasSetStream(handle, (cudaStream_t)stream) != CUBLAS_STATUS_SUCCESS) return SSM_ERR_DEVICE;
    return cublasGemmEx(handle, b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, a_turned ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k,
                        &one, p->b, type, (int)b_row, p->a, type, (int)a_row, &beta, p->c, c_type, (int)p->c_m,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS
               ? SSM_OK
               : SSM_ERR_DEVICE;
}

#define SSM_CUDA_PRODUCT product
#define SSM_IMPLEMENTATION
#include "ssm.h"

static void check(int good, const char *what)
{
    if (good) return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

/* count random numbers in -1 .. 1 on the device, as bf16. */
static float *random_bf16(size_t count, unsigned seed)
{
    std::vector<uint16_t> host(count);
    void *device;
    size_t i;
    for (i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        const float x = (float)(seed >> 8) / 8388608.0f - 1.0f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        host[i] = (uint16_t)(bits >> 16);
    }
    check(cudaMalloc(&device, count * 2) == cudaSuccess, "cudaMalloc");
    check(cudaMemcpy(device, host.data(), count * 2, cudaMemcpyHostToDevice) == cudaSuccess, "cudaMemcpy");
    return (float *)device;
}

/* Runs the layer 20 times; milliseconds of one, and y. */
static float run(const ssm_linear *layer, const float *x, float *y, size_t rows, std::vector<uint16_t> *result)
{
    const ssm_rows from = ssm_rows_of(x, (ptrdiff_t)layer->in);
    const ssm_rows_out to = ssm_rows_out_of(y, (ptrdiff_t)layer->out);
    cudaEvent_t begin, end;
    float time;
    int i;
    check(cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess, "cudaEventCreate");
    for (i = 0; i < 21; ++i) {
        if (i == 1) cudaEventRecord(begin); /* the first one warms up */
        check(ssm_cuda_linear_forward(layer, from, to, rows, SSM_FORMAT_BF16, NULL) == SSM_OK, "forward");
    }
    cudaEventRecord(end);
    check(cudaEventSynchronize(end) == cudaSuccess, "the kernels");
    cudaEventElapsedTime(&time, begin, end);
    check(cudaMemcpy(result->data(), y, result->size() * 2, cudaMemcpyDeviceToHost) == cudaSuccess, "cudaMemcpy");
    return time / 20;
}

static double value(uint16_t bf16)
{
    const uint32_t bits = (uint32_t)bf16 << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

int main(void)
{
    const size_t rows = 16384, in = 768, out = 3072;
    std::vector<uint16_t> own(rows * out), theirs(rows * out);
    float *x = random_bf16(rows * in, 1), *y = random_bf16(rows * out, 2);
    ssm_linear layer = {};
    double error = 0, norm = 0;
    float time[2];
    size_t i;
    layer.in = in;
    layer.out = out;
    layer.weight = random_bf16(in * out, 3);
    check(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS, "cublasCreate");
    time[0] = run(&layer, x, y, rows, &own);
    by_cublas = 1;
    time[1] = run(&layer, x, y, rows, &theirs);
    for (i = 0; i < own.size(); ++i) {
        const double d = value(own[i]) - value(theirs[i]);
        error += d * d;
        norm += value(theirs[i]) * value(theirs[i]);
    }
    error = sqrt(error / norm);
    printf("%zu rows, %zu -> %zu, bf16: ssm.h %.4f ms, cuBLAS %.4f ms, difference %.1e\n", rows, in, out, time[0],
           time[1], error);
    return error < 1e-3 ? 0 : 1;
}
