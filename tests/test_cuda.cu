/* test_cuda.cu - the ops on a GPU against those on the CPU, over random shapes and layouts.
 *
 *   nvcc -arch=sm_90a -O3 -I. tests/test_cuda.cu -o test_cuda                                  on a GPU
 *   g++ -std=c++11 -x c++ -DSSM__CUDA_ON_HOST -Itests/emulator -I. tests/test_cuda.cu ...     on the emulator
 *
 *   test_cuda [--seed N] [--rounds N] [--without LINE] [--barriers] [NAME...]
 * NAME selects tests by a part of their names. The last two are the emulator's: leave out a barrier, list them all, each
 * with the first test that meets it.
 *
 * Every tensor lies inside a larger allocation whose other elements must stay as they were. Outputs begin as NaN,
 * gradients as random numbers. Every call runs twice, on the emulator with the threads in both orders, and must give
 * the same bits. */
#define SSM_CUDA
#include "ssm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <algorithm>
#include <vector>

static ssm_status hook(const ssm_cuda_product *p, void *stream); /* cuda_linear.h */
#define SSM_CUDA_PRODUCT hook
#define SSM_IMPLEMENTATION
#include "ssm.h"

#ifdef SSM__CUDA_ON_HOST
static const int on_gpu = 0;
#define EMULATOR(x) x
#else
static const int on_gpu = 1;
#define EMULATOR(x)
#endif

/* --- framework --- */
static uint64_t seed = 1;
static int rounds, passed, failed;
static char **names;
static int name_count;

static uint64_t random_bits(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t pick(size_t from, size_t to) /* both possible */
{
    return from + (size_t)(random_bits() % (to - from + 1));
}

static int chance(int percent)
{
    return (int)(random_bits() % 100) < percent;
}

static float uniform(float low, float high)
{
    return low + (high - low) * (float)(random_bits() >> 40) * 5.9604644775390625e-8f;
}

static int wanted(const char *name)
{
    int i;
    for (i = 0; i < name_count; ++i)
        if (strstr(name, names[i])) return 1;
    return name_count == 0;
}

static int trouble; /* of the test that runs */

static void complain(const char *what, double got, double bound)
{
    if (trouble++ < 5) printf("     %s: %g, bound %g\n", what, got, bound);
}

static void require(int condition, const char *what)
{
    if (!condition && trouble++ < 5) printf("     %s\n", what);
}

static void cuda_ok(cudaError_t error, const char *what)
{
    if (error != cudaSuccess) {
        printf("FAIL cuda/runtime (%s: error %d)\n", what, (int)error);
        exit(1);
    }
}

static float to_bf16(float x)
{
    ssm__float q;
    q.u = (uint32_t)ssm__bf16(x) << 16;
    return q.f;
}

/* --- tensors --- */
enum fill { UNIFORM, NORMAL, STEPS, POSITIVE, NEGATIVE, POISON };
enum { GUARD = 64 };

/* A view of random layout, twice: on the host (float) and on the device (float or bf16), with room around it. */
struct tensor {
    std::vector<float> host, start; /* the whole allocation; as it was uploaded */
    void *device;
    int half;
    ssm_in view; /* data: the host's */
    size_t base;

    tensor() : device(NULL), half(0), base(0) { memset(&view, 0, sizeof view); }
    ~tensor() { cudaFree(device); }
    tensor(const tensor &) = delete;
    tensor &operator=(const tensor &) = delete;

    size_t bytes(void) const { return host.size() * (half ? 2 : 4); }

    void upload(void)
    {
        std::vector<uint16_t> bits(host.size());
        size_t i;
        if (!device) cuda_ok(cudaMalloc(&device, bytes()), "cudaMalloc");
        start = host;
        for (i = 0; half && i < host.size(); ++i) bits[i] = ssm__bf16(host[i]);
        cuda_ok(cudaMemcpy(device, half ? (void *)bits.data() : (void *)host.data(), bytes(), cudaMemcpyHostToDevice),
                "upload");
    }

    std::vector<float> download(void) const
    {
        std::vector<float> r(host.size());
        std::vector<uint16_t> bits(host.size());
        size_t i;
        cuda_ok(cudaMemcpy(half ? (void *)bits.data() : (void *)r.data(), device, bytes(), cudaMemcpyDeviceToHost),
                "download");
        for (i = 0; half && i < host.size(); ++i) r[i] = __uint_as_float_of(bits[i]);
        return r;
    }

    static float __uint_as_float_of(uint16_t bits)
    {
        ssm__float q;
        q.u = (uint32_t)bits << 16;
        return q.f;
    }

    ssm_in in(int of_device) const
    {
        ssm_in v = view;
        if (host.empty()) return v;
        v.data = of_device ? (half ? (const float *)((const uint16_t *)device + base) : (const float *)device + base)
                           : host.data() + base;
        return v;
    }

    ssm_out out(int of_device) const
    {
        const ssm_in v = in(of_device);
        return ssm_out_like((float *)(uintptr_t)v.data, v);
    }
};

enum layout { DENSE, PADDED, TRANSPOSED, BACKWARDS, LAYOUTS };

static float value(enum fill fill)
{
    switch (fill) {
    case UNIFORM: return uniform(-1, 1);
    case NORMAL: return uniform(-1, 1) + uniform(-1, 1) + uniform(-1, 1);
    case STEPS: return uniform(-5, 1);
    case POSITIVE: return uniform(0.001f, 0.3f);
    case NEGATIVE: return -uniform(0.2f, 8.0f);
    default: return NAN;
    }
}

/* extent 0 of an axis: the tensor does not have it. shared: bit per axis (batch, time, chan, state) with stride 0. */
static void make(tensor *x, int half, size_t batch, size_t time, size_t chan, size_t state, enum layout layout,
                 int shared, enum fill fill)
{
    const size_t extent[4] = {batch, time, chan, state};
    const int order[2][4] = {{0, 1, 2, 3}, {0, 2, 3, 1}};
    ptrdiff_t stride[4] = {0, 0, 0, 0}, next = 1;
    size_t i, pad = layout == DENSE ? 0 : chance(70) ? 4 : pick(1, 5);
    int a;
    for (a = 3; a >= 0; --a) {
        const int axis = order[layout == TRANSPOSED][a];
        if (extent[axis] == 0 || (shared >> axis & 1)) continue;
        stride[axis] = next;
        next *= (ptrdiff_t)extent[axis];
        if (axis == (layout == TRANSPOSED ? 2 : 1) - (time == 0 ? 1 : 0) || (time && axis == 2)) next += (ptrdiff_t)pad;
    }
    cudaFree(x->device);
    x->device = NULL;
    x->half = half;
    x->base = GUARD + pad;
    x->host.resize((size_t)next + 2 * GUARD + 2 * pad);
    if (layout == BACKWARDS && stride[1] && time) {
        x->base += (size_t)stride[1] * (time - 1);
        stride[1] = -stride[1];
    }
    for (i = 0; i < x->host.size(); ++i) {
        x->host[i] = i < GUARD || i >= x->host.size() - GUARD ? 12345.0f : value(fill);
        if (half) x->host[i] = to_bf16(x->host[i]);
    }
    x->view.batch = stride[0];
    x->view.time = stride[1];
    x->view.chan = stride[2];
    x->view.state = stride[3];
    x->upload();
}

/* Puts the device's copy back to how it was. */
static void reset(tensor *x)
{
    if (x->host.empty()) return;
    std::vector<float> host = x->host;
    x->host = x->start;
    x->upload();
    x->host = host;
}

static int same_bits(const std::vector<float> &a, const std::vector<float> &b)
{
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

/* |error| / |reference| over the elements that the host changed; the others must be as they were. bf16: each element
 * may be off by its rounding beside. */
static void compare(const tensor &x, double bound, const char *what)
{
    const std::vector<float> got = x.download();
    double error = 0, norm = 0, most = 0;
    size_t i, count = 0;
    for (i = 0; i < got.size(); ++i) {
        if (memcmp(&x.host[i], &x.start[i], 4) == 0) {
            const float keep = x.half ? to_bf16(x.start[i]) : x.start[i];
            if (memcmp(&got[i], &keep, 4) && !(x.host[i] == got[i]) && !(keep != keep && got[i] != got[i]))
                if (!(fabs((double)got[i] - keep) <= (1e-6 + 1e-2 * bound) * fabs((double)keep)))
                    complain(what, got[i], keep);
            continue;
        }
        error += ((double)got[i] - x.host[i]) * ((double)got[i] - x.host[i]);
        norm += (double)x.host[i] * x.host[i];
        count += 1;
    }
    if (count == 0) return;
    if (!x.half) {
        if (!(sqrt(error) <= bound * sqrt(norm) + 1e-30)) complain(what, sqrt(error / norm), bound);
        return;
    }
    for (i = 0; i < got.size(); ++i) {
        const double e = fabs((double)got[i] - x.host[i]) - 1.02 / 256 * fabs((double)x.host[i]);
        if (x.host[i] == x.host[i] && e > most) most = e;
        if (x.host[i] == x.host[i] && got[i] != got[i]) most = INFINITY;
    }
    if (!(most <= 10 * bound * sqrt(norm / (double)count)))
        complain(what, most / sqrt(norm / (double)count), 10 * bound);
}

/* A block of device memory of exactly the bytes asked for, behind it a guard. */
struct block {
    unsigned char *data;
    size_t bytes;
    explicit block(size_t n) : data(NULL), bytes(n)
    {
        cuda_ok(cudaMalloc((void **)&data, n + 256), "cudaMalloc");
        cuda_ok(cudaMemset(data, 0xff, n + 256), "cudaMemset");
    }
    ~block()
    {
        unsigned char guard[256];
        size_t i;
        cuda_ok(cudaMemcpy(guard, data + bytes, 256, cudaMemcpyDeviceToHost), "guard");
        for (i = 0; i < 256; ++i)
            if (guard[i] != 0xff) {
                require(0, "a workspace was written beyond its end");
                break;
            }
        cudaFree(data);
    }
    block(const block &) = delete;
    block &operator=(const block &) = delete;
    ssm_memory memory(void) const { return ssm_memory_of(data, bytes); }
};

static void ok(ssm_status status, const char *what)
{
    if (status != SSM_OK && trouble++ < 5) printf("     %s: %s\n", what, ssm_status_string(status));
    cuda_ok(cudaDeviceSynchronize(), what);
}

/* Runs a call on the device twice from the same state of `outputs`; the second must give the bits of the first. */
template <class F> static void twice(F call, tensor *const *outputs, size_t count, const char *what)
{
    std::vector<std::vector<float>> first(count);
    size_t i;
    EMULATOR(emulator_order = 0);
    call();
    for (i = 0; i < count; ++i) {
        if (outputs[i]->host.empty()) continue;
        first[i] = outputs[i]->download();
        reset(outputs[i]);
    }
    EMULATOR(emulator_order = 1);
    call();
    EMULATOR(emulator_order = 0);
    for (i = 0; i < count; ++i)
        if (!outputs[i]->host.empty() && !same_bits(first[i], outputs[i]->download())) require(0, what);
}

#include "cuda_scan.h"
#include "cuda_conv.h"
#include "cuda_rows.h"
#include "cuda_linear.h"
#include "cuda_layers.h"
#include "cuda_losses.h"
#include "cuda_lti.h"
#include "cuda_ssd.h"

typedef struct test {
    const char *name;
    void (*run)(void);
} test;

static const test tests[] = {
    {"cuda/scan/fast", scan_fast},         {"cuda/scan/plain", scan_plain},   {"cuda/scan/packed", scan_packed},
    {"cuda/scan/chunks", scan_chunks},     {"cuda/scan/step", scan_step},     {"cuda/scan/layouts", scan_layouts},
    {"cuda/scan/tape", scan_tape},         {"cuda/scan/errors", scan_errors}, {"cuda/scan/graph", scan_graph},
    {"cuda/scan/slots", scan_slots},       {"cuda/conv/slots", conv_slots},
    {"cuda/conv/random", conv_random},     {"cuda/conv/step", conv_step},     {"cuda/conv/errors", conv_errors},
    {"cuda/rows/random", rows_random},     {"cuda/rows/norm", rows_norm},     {"cuda/rows/adamw", rows_adamw},
    {"cuda/linear/random", linear_random}, {"cuda/linear/rows", linear_rows},
    {"cuda/linear/add", linear_add},
    {"cuda/layers/selective", layer_selective}, {"cuda/layers/s6", layer_s6}, {"cuda/layers/mamba", layer_mamba},
    {"cuda/layers/mamba2", layer_mamba2},       {"cuda/layers/mamba3", layer_mamba3},
    {"cuda/layers/s5", layer_s5},               {"cuda/layers/s4d", layer_s4d},
    {"cuda/layers/rglru", layer_rglru},
    {"cuda/layers/s4", layer_s4},               {"cuda/layers/s4/checkpoint", layer_checkpoint},
    {"cuda/layers/splits", mamba_layer_splits},       {"cuda/layers/slots", mamba_layer_slots},
    {"cuda/layers/errors", mamba_layer_errors},       {"cuda/layers/graph", mamba_layer_graph},
    {"cuda/layers/decode", mamba_layer_decode},
    {"cuda/layers/mamba3/splits", mamba3_layer_splits}, {"cuda/layers/mamba3/slots", mamba3_layer_slots},
    {"cuda/layers/mamba3/errors", mamba3_layer_errors}, {"cuda/layers/mamba3/graph", mamba3_layer_graph},
    {"cuda/layers/s5/splits", s5_layer_splits},       {"cuda/layers/s5/slots", s5_layer_slots},
    {"cuda/layers/s5/errors", s5_layer_errors},       {"cuda/layers/s5/graph", s5_layer_graph},
    {"cuda/layers/s5/chunks", layer_chunks},    {"cuda/layers/s5/two_ways", layer_two_ways},
    {"cuda/layers/s4d/splits", s4d_layer_splits},     {"cuda/layers/s4d/slots", s4d_layer_slots},
    {"cuda/layers/s4d/errors", s4d_layer_errors},     {"cuda/layers/s4d/graph", s4d_layer_graph},
    {"cuda/layers/s4/splits", s4_layer_splits},       {"cuda/layers/s4/slots", s4_layer_slots},
    {"cuda/layers/s4/errors", s4_layer_errors},       {"cuda/layers/s4/graph", s4_layer_graph},
    {"cuda/layers/rglru/splits", rglru_layer_splits}, {"cuda/layers/rglru/slots", rglru_layer_slots},
    {"cuda/layers/rglru/errors", rglru_layer_errors}, {"cuda/layers/rglru/graph", rglru_layer_graph},
    {"cuda/losses/cross_entropy", losses_cross_entropy}, {"cuda/losses/mse", losses_mse},
    {"cuda/losses/mean", losses_mean},     {"cuda/losses/layer_norm", losses_layer_norm},
    {"cuda/losses/embedding", losses_embedding}, {"cuda/losses/errors", losses_errors},
    {"cuda/linear/tiles", linear_tiles},
    {"cuda/line/random", line_random},     {"cuda/line/chunks", line_chunks}, {"cuda/line/layouts", line_layouts},
    {"cuda/line/slots", line_slots},       {"cuda/line/errors", line_errors},
    {"cuda/s5/random", s5_random},         {"cuda/s5/chunks", s5_chunks},     {"cuda/s5/step", s5_step},
    {"cuda/s5/slots", s5_slots},           {"cuda/s5/errors", s5_errors},
    {"cuda/ssd/random", ssd_random},       {"cuda/ssd/packed", ssd_packed},   {"cuda/ssd/step", ssd_step},
    {"cuda/ssd/slots", ssd_slots},         {"cuda/ssd/errors", ssd_errors},
    {"cuda/ssd/chunks", ssd_chunks},       {"cuda/ssd/chunks/slots", ssd_chunks_slots},
    {"cuda/ssd/chunks/choice", ssd_chunks_choice}, {"cuda/ssd/chunks/backward", ssd_chunks_backward},
    {"cuda/ssd/chunks/choice_back", ssd_chunks_choice_back}, {"cuda/ssd/chunks/heads", ssd_chunks_heads},
};

int main(int count, char **arguments)
{
    size_t i;
    int a, list = 0;
    rounds = on_gpu ? 40 : 6;
    for (a = 1; a < count; ++a) {
        if (!strcmp(arguments[a], "--seed") && a + 1 < count) seed = strtoull(arguments[++a], NULL, 10);
        else if (!strcmp(arguments[a], "--rounds") && a + 1 < count) rounds = atoi(arguments[++a]);
        else if (!strcmp(arguments[a], "--barriers")) list = 1;
#ifdef SSM__CUDA_ON_HOST
        else if (!strcmp(arguments[a], "--without") && a + 1 < count) emulator_without = atoi(arguments[++a]);
#endif
        else break;
    }
    names = arguments + a;
    name_count = count - a;
    for (i = 0; i < sizeof tests / sizeof tests[0]; ++i) {
        if (!wanted(tests[i].name)) continue;
        trouble = 0;
        EMULATOR(const int known = emulator_count);
        tests[i].run();
        EMULATOR(for (a = known; list && a < emulator_count; ++a)
                     printf("barrier %d %s\n", emulator_lines[a], tests[i].name));
        printf("%s %s\n", trouble ? "FAIL" : "ok  ", tests[i].name);
        fflush(stdout);
        *(trouble ? &failed : &passed) += 1;
        EMULATOR(if (trouble && emulator_without) return 1);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
