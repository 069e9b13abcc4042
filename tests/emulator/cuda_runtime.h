/* cuda_runtime.h - a GPU that a host compiler compiles, for tests of kernels without one.
 *
 * A block is as many fibers as it has threads: a fiber runs until it meets a barrier or a shuffle, then the next one
 * does. Threads run upwards, all warps together, or downwards, one warp as far as it comes before the next one begins
 * (emulator_order), so that a value that is read before it is written, or after it was overwritten, shows. Shared memory begins as NaN, and what lies behind it is watched. emulator_without leaves
 * out the barriers of one source line: a test that then still passes does not test that barrier. Copies behind a
 * thread's back (cp.async) are done at once: a wait too few does not show here. */
#ifndef EMULATOR_CUDA_RUNTIME_H
#define EMULATOR_CUDA_RUNTIME_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ thread_local
#define __align__(n) __attribute__((aligned((n) < 16 ? (n) : 16))) /* GCC has remarks on parameters of more */
#define __grid_constant__

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    const uint2 r = {x, y};
    return r;
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    const uint4 r = {x, y, z, w};
    return r;
}
static inline float2 make_float2(float x, float y)
{
    const float2 r = {x, y};
    return r;
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    const float4 r = {x, y, z, w};
    return r;
}

static inline float __uint_as_float(unsigned x)
{
    float r;
    memcpy(&r, &x, sizeof r);
    return r;
}

/* --- one block --- */
enum { EMULATOR_THREADS = 1024, EMULATOR_STACK = 128 * 1024, EMULATOR_ROOM = 256 * 1024 };

struct emulator_barrier {
    int alive;
    int arrived;
    unsigned turn;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;
static int emulator_order;     /* 0: threads upwards; 1: downwards, warp by warp */
static int emulator_without;   /* line whose barrier is left out; 0: none */
static int emulator_lines[128]; /* lines that had a barrier, with emulator_count of them */
static int emulator_count;
static emulator_barrier emulator_block, emulator_warp[EMULATOR_THREADS / 32];
static float emulator_exchange[2][EMULATOR_THREADS];
static struct emulator_fiber {
    ucontext_t context;
    bool done;
    emulator_barrier *waits;
    unsigned turn;
    unsigned shuffles;
} emulator_fibers[EMULATOR_THREADS];
static ucontext_t emulator_main;
static unsigned emulator_now;
static void (*emulator_call)(void);
alignas(256) thread_local unsigned char ssm__cuda_room[EMULATOR_ROOM];

static void emulator_open(emulator_barrier *b)
{
    if (b->arrived < b->alive || b->arrived == 0) return;
    b->arrived = 0;
    b->turn += 1;
}

static void emulator_wait(emulator_barrier *b)
{
    emulator_fiber *f = &emulator_fibers[emulator_now];
    f->waits = b;
    f->turn = b->turn;
    b->arrived += 1;
    emulator_open(b);
    if (b->turn != f->turn) { /* the last to come; let the others go first now and then */
        f->waits = NULL;
        return;
    }
    swapcontext(&f->context, &emulator_main);
}

static void emulator_sync(int line)
{
    int i;
    for (i = 0; i < emulator_count && emulator_lines[i] != line; ++i) {}
    if (i == emulator_count && i < 128) emulator_lines[emulator_count++] = line;
    if (line != emulator_without) emulator_wait(&emulator_block);
}
#define __syncthreads() emulator_sync(__LINE__)
#define __syncwarp() emulator_wait(&emulator_warp[emulator_now / 32])

/* Two rooms that take turns: who reads one cannot meet who writes it two shuffles later. */
static inline float __shfl_xor_sync(unsigned, float x, int mask)
{
    const unsigned now = emulator_now;
    float *room = emulator_exchange[emulator_fibers[now].shuffles++ & 1];
    room[now] = x;
    emulator_wait(&emulator_warp[now / 32]);
    return room[now ^ (unsigned)mask];
}

static inline unsigned __shfl_xor_sync(unsigned mask, unsigned x, int other)
{
    float bits;
    memcpy(&bits, &x, sizeof bits);
    bits = __shfl_xor_sync(mask, bits, other);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Lane `from` of each `width` neighbours. */
static inline float __shfl_sync(unsigned, float x, int from, int width)
{
    const unsigned now = emulator_now;
    float *room = emulator_exchange[emulator_fibers[now].shuffles++ & 1];
    room[now] = x;
    emulator_wait(&emulator_warp[now / 32]);
    return room[now / (unsigned)width * (unsigned)width + (unsigned)from];
}

/* What every lane of the warp hands in, [lane][words]; by the same two rooms. */
enum { EMULATOR_WORDS = 10 };
static inline const unsigned (*emulator_gather(const void *mine, size_t bytes))[EMULATOR_WORDS]
{
    static unsigned rooms[2][EMULATOR_THREADS][EMULATOR_WORDS];
    const unsigned now = emulator_now;
    unsigned(*room)[EMULATOR_WORDS] = rooms[emulator_fibers[now].shuffles++ & 1];
    memcpy(room[now], mine, bytes);
    emulator_wait(&emulator_warp[now / 32]);
    return room + now / 32 * 32;
}

/* ldmatrix.x4 */
static inline void emulator_matrices(unsigned (&r)[4], const void *line, int turned)
{
    const unsigned lane = emulator_now % 32;
    const unsigned(*all)[EMULATOR_WORDS] = emulator_gather(&line, sizeof line);
    unsigned i, j;
    for (i = 0; i < 4; ++i) {
        uint16_t x[2];
        for (j = 0; j < 2; ++j) {
            const unsigned along = lane % 4 * 2 + j, row = turned ? along : lane / 4;
            const unsigned column = turned ? lane / 4 : along;
            const uint16_t *from;
            memcpy(&from, all[8 * i + row], sizeof from);
            x[j] = from[column];
        }
        r[i] = (unsigned)x[0] | (unsigned)x[1] << 16;
    }
}

/* mma.m16n8k16 of bf16, inner indices in their order. */
static inline void emulator_multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    const unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1}, lane = emulator_now % 32;
    const unsigned(*all)[EMULATOR_WORDS] = emulator_gather(mine, sizeof mine);
    unsigned i, k;
    for (i = 0; i < 4; ++i)
        for (k = 0; k < 8; ++k) { /* pairs of inner indices */
            const unsigned x = all[lane / 4 * 4 + k % 4][i / 2 + k / 4 * 2];
            const unsigned y = all[(lane % 4 * 2 + i % 2) * 4 + k % 4][4 + k / 4];
            c[i] += __uint_as_float(x << 16) * __uint_as_float(y << 16);
            c[i] += __uint_as_float(x & 0xffff0000u) * __uint_as_float(y & 0xffff0000u);
        }
}

static void emulator_entry(void)
{
    emulator_fiber *f = &emulator_fibers[emulator_now];
    emulator_call();
    f->done = true;
    emulator_block.alive -= 1;
    emulator_warp[emulator_now / 32].alive -= 1;
    emulator_open(&emulator_block);
    emulator_open(&emulator_warp[emulator_now / 32]);
    swapcontext(&f->context, &emulator_main);
}

/* Runs a thread up to where it waits next; whether it could. */
static unsigned emulator_resume(unsigned now, unsigned *left)
{
    emulator_fiber *f = &emulator_fibers[now];
    if (f->done || (f->waits && f->waits->turn == f->turn)) return 0;
    f->waits = NULL;
    emulator_now = now;
    threadIdx = dim3(now);
    swapcontext(&emulator_main, &f->context);
    if (f->done) *left -= 1;
    return 1;
}

/* Runs a warp, threads downwards, until it waits for others. */
static unsigned emulator_run_warp(unsigned warp, unsigned threads, unsigned *left)
{
    const unsigned first = 32 * warp, end = threads < first + 32 ? threads : first + 32;
    unsigned all = 0, moved, i;
    do {
        for (moved = 0, i = end; i-- > first;) moved += emulator_resume(i, left);
        all += moved;
    } while (moved);
    return all;
}

static void emulator_run_block(unsigned threads)
{
    static unsigned char *stacks = (unsigned char *)malloc((size_t)EMULATOR_THREADS * EMULATOR_STACK);
    unsigned i, left = threads;
    emulator_block.alive = (int)threads;
    emulator_block.arrived = 0;
    for (i = 0; i < threads; ++i) {
        emulator_fiber *f = &emulator_fibers[i];
        if (i % 32 == 0) {
            emulator_warp[i / 32].alive = (int)(threads - i < 32 ? threads - i : 32);
            emulator_warp[i / 32].arrived = 0;
        }
        f->done = false;
        f->waits = NULL;
        f->shuffles = 0;
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = stacks + (size_t)i * EMULATOR_STACK;
        f->context.uc_stack.ss_size = EMULATOR_STACK;
        f->context.uc_link = &emulator_main;
        makecontext(&f->context, emulator_entry, 0);
    }
    while (left) {
        unsigned moved = 0;
        if (emulator_order == 0)
            for (i = 0; i < threads; ++i) moved += emulator_resume(i, &left);
        for (i = emulator_order ? (threads + 31) / 32 : 0; i-- > 0;) moved += emulator_run_warp(i, threads, &left);
        if (!moved) {
            fprintf(stderr, "emulator: threads wait for each other\n");
            exit(3);
        }
    }
}

/* --- the runtime --- */
typedef int cudaError_t;
typedef void *cudaStream_t;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

template <class F> static cudaError_t cudaFuncSetAttribute(F, int, int bytes)
{
    return bytes <= 227 * 1024 ? cudaSuccess : cudaErrorInvalidValue;
}

template <class P> struct emulator_launch {
    static void (*kernel)(P);
    static P *argument;
    static void call(void) { kernel(*argument); }
};
template <class P> void (*emulator_launch<P>::kernel)(P);
template <class P> P *emulator_launch<P>::argument;

static int emulator_launches;

template <class P>
static cudaError_t cudaLaunchKernel(void (*kernel)(P), dim3 grid, dim3 block, void **arguments, size_t shared,
                                    cudaStream_t)
{
    const float nan = __uint_as_float(0xffffffffu);
    unsigned x, y;
    size_t i;
    emulator_launches += 1;
    if (block.x > EMULATOR_THREADS || shared > EMULATOR_ROOM) return cudaErrorInvalidValue;
    gridDim = grid;
    blockDim = block;
    emulator_launch<P>::kernel = kernel;
    emulator_launch<P>::argument = (P *)arguments[0];
    emulator_call = emulator_launch<P>::call;
    for (y = 0; y < grid.y; ++y)
        for (x = 0; x < grid.x; ++x) {
            blockIdx = dim3(x, y);
            for (i = 0; i < shared + 4096 && i < EMULATOR_ROOM; i += sizeof nan)
                memcpy(ssm__cuda_room + i, &nan, sizeof nan);
            emulator_run_block(block.x);
            for (i = shared; i < shared + 4096 && i < EMULATOR_ROOM; ++i)
                if (ssm__cuda_room[i] != 0xff) return cudaErrorInvalidValue; /* beyond what was asked for */
        }
    return cudaSuccess;
}

/* Few SMs, so that a block of a kernel that stays has several tiles; room for shared memory as a test likes it. */
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
static int emulator_shared = 227 * 1024;

static inline cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int)
{
    *value = what == cudaDevAttrMultiProcessorCount      ? 3
             : what == cudaDevAttrComputeCapabilityMajor ? 8
                                                         : emulator_shared;
    return cudaSuccess;
}

static inline cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = aligned_alloc(256, (bytes + 511) / 256 * 256);
    return *p ? cudaSuccess : cudaErrorInvalidValue;
}
static inline cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    memset(to, value, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    memset(to, value, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                            size_t height, cudaMemcpyKind, cudaStream_t)
{
    size_t i;
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
    for (i = 0; i < height; ++i) memcpy((char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
    return cudaSuccess;
}
static inline cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height, cudaStream_t)
{
    size_t i;
    if (width > pitch) return cudaErrorInvalidValue;
    for (i = 0; i < height; ++i) memset((char *)to + i * pitch, value, width);
    return cudaSuccess;
}
static inline const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : "an error of the emulator";
}
static inline cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

#endif
