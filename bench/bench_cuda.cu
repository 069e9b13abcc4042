/* bench_cuda.cu - time of the ops on a GPU beside the physical limit, and what other libraries take on an H200.
 *
 *   nvcc -arch=sm_90a -O3 -I. bench/bench_cuda.cu -o bench_cuda && bench_cuda [NAME...]
 *
 * Median of 15 runs between events, L2 flushed before each. The rivals' figures were measured with the kernels of
 * mamba_ssm, causal_conv1d and lrnnx on one H200; on another card only the ratio to the limit says something. */
#define SSM_CUDA
#define SSM_IMPLEMENTATION
#include "ssm.h"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

static char **names;
static int name_count;

static int wanted(const char *name)
{
    int i;
    for (i = 0; i < name_count; ++i)
        if (strstr(name, names[i])) return 1;
    return name_count == 0;
}

static void check(int good, const char *what)
{
    if (good) return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(cudaGetLastError()));
    exit(1);
}

static void ok(ssm_status status, const char *what)
{
    if (status != SSM_OK) fprintf(stderr, "%s\n", ssm_status_string(status));
    check(status == SSM_OK, what);
}

/* count random numbers in low .. high, float or bf16, on the device. */
struct array {
    float *data;
    array(size_t count, ssm_format io, float low, float high)
    {
        const size_t bytes = count * (io == SSM_FORMAT_BF16 ? 2 : 4);
        std::vector<uint32_t> host(bytes / 4 + 1);
        uint64_t z = count * 2654435761u + 1;
        size_t i;
        for (i = 0; i < count; ++i) {
            z = z * 6364136223846793005u + 1442695040888963407u;
            const float x = low + (high - low) * (float)(z >> 40) / 16777216.0f;
            if (io == SSM_FORMAT_BF16) ((uint16_t *)host.data())[i] = ssm__bf16(x);
            else memcpy(&host[i], &x, 4);
        }
        check(cudaMalloc((void **)&data, bytes + 256) == cudaSuccess, "cudaMalloc");
        check(cudaMemcpy(data, host.data(), bytes, cudaMemcpyHostToDevice) == cudaSuccess, "cudaMemcpy");
    }
    ~array() { cudaFree(data); }
    array(const array &) = delete;
};

template <class F> static double milliseconds(F run, int flush = 1)
{
    static void *room;
    std::vector<float> times;
    cudaEvent_t a, b;
    int i;
    if (!room) check(cudaMalloc(&room, 256 << 20) == cudaSuccess, "cudaMalloc");
    cudaEventCreate(&a);
    cudaEventCreate(&b);
    for (i = 0; i < 18; ++i) {
        float t;
        if (flush) cudaMemsetAsync(room, i, 256 << 20);
        cudaEventRecord(a);
        run();
        cudaEventRecord(b);
        check(cudaEventSynchronize(b) == cudaSuccess, "run");
        cudaEventElapsedTime(&t, a, b);
        if (i >= 3) times.push_back(t);
    }
    cudaEventDestroy(a);
    cudaEventDestroy(b);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

/* rival, bar: ms; 0: none. limit: ms. */
static void report(const char *name, double ms, double limit, double rival, double bar)
{
    printf("%-58s %8.4f ms  limit %7.4f", name, ms, limit);
    if (rival > 0) printf("  rival %7.4f = %.2fx", rival, rival / ms);
    if (bar > 0) printf("  bar %7.4f %s", bar, ms <= bar ? "holds" : "MISSED");
    printf("\n");
    fflush(stdout);
}

enum { BANDWIDTH = 4226 }; /* GB/s of a copy on an H200 */

static void scan(size_t batch, size_t dim, size_t len, ssm_format io, double rival, double bar, double rival_back,
                 double bar_back)
{
    const size_t n = batch * len * dim, m = batch * len * 16, e = io == SSM_FORMAT_BF16 ? 2 : 4;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    char name[100], every[400];
    snprintf(every, sizeof every,
             "scan forward %s %zux%zux%zu scan record %s %zux%zux%zu scan backward, tape %s %zux%zux%zu "
             "scan backward %s %zux%zux%zu",
             type, batch, dim, len, type, batch, dim, len, type, batch, dim, len, type, batch, dim, len);
    if (!wanted(every)) return; /* before a gigabyte of random numbers is made */
    array u(n, io, -1, 1), delta(n, io, -2, 1), z(n, io, -2, 2), y(n, io, 0, 0), dy(n, io, -1, 1);
    array B(m, io, -1, 1), C(m, io, -1, 1), A(dim * 16, SSM_FORMAT_REAL, -16, -1), D(dim, SSM_FORMAT_REAL, -1, 1);
    array bias(dim, SSM_FORMAT_REAL, -4, -2);
    ssm_selective_scan s;
    ssm_selective_scan_grad g;
    ssm_sizes need;
    double limit, ms;
    memset(&s, 0, sizeof s);
    memset(&g, 0, sizeof g);
    s.batch = batch;
    s.len = len;
    s.dim = dim;
    s.d_state = 16;
    s.delta_softplus = 1;
    s.u = ssm_in_btc(u.data, len, dim);
    s.delta = ssm_in_btc(delta.data, len, dim);
    s.z = ssm_in_btc(z.data, len, dim);
    s.A = ssm_in_cn(A.data, 16);
    s.B = ssm_in_btcn(B.data, len, 1, 16);
    s.C = ssm_in_btcn(C.data, len, 1, 16);
    s.D = ssm_in_c(D.data);
    s.delta_bias = ssm_in_c(bias.data);
    s.y = ssm_out_like(y.data, s.u);
    ok(ssm_cuda_selective_scan_sizes(&s, io, &need), "sizes");
    array work(need.work / 4 + 64, SSM_FORMAT_REAL, 0, 0), tape(need.tape / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    const ssm_memory w = ssm_memory_of(work.data, need.work), t = ssm_memory_of(tape.data, need.tape);
    limit = std::max((4.0 * n + 2.0 * m) * e / BANDWIDTH / 1e6, n * 16 / (132 * 16 * 1.98e9) * 1e3);
    snprintf(name, sizeof name, "scan forward %s %zux%zux%zu", type, batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_selective_scan_forward(&s, io, w, NULL), name); }), limit, rival,
               bar);
    snprintf(name, sizeof name, "scan record %s %zux%zux%zu", type, batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_selective_scan_record(&s, io, t, w, NULL), name); }), limit, 0, 0);
    if (rival_back <= 0) return;
    array du(n, io, 0, 0), dd(n, io, 0, 0), dz(n, io, 0, 0), dB(m, io, 0, 0), dC(m, io, 0, 0),
        dA(dim * 16, SSM_FORMAT_REAL, 0, 0);
    array dD(dim, SSM_FORMAT_REAL, 0, 0), db(dim, SSM_FORMAT_REAL, 0, 0),
        back(need.work_backward / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    g.dy = ssm_in_btc(dy.data, len, dim);
    g.du = ssm_out_like(du.data, s.u);
    g.ddelta = ssm_out_like(dd.data, s.u);
    g.dz = ssm_out_like(dz.data, s.u);
    g.dB = ssm_out_like(dB.data, s.B);
    g.dC = ssm_out_like(dC.data, s.C);
    g.dA = ssm_out_like(dA.data, s.A);
    g.dD = ssm_out_like(dD.data, s.D);
    g.ddelta_bias = ssm_out_like(db.data, s.D);
    const ssm_memory bw = ssm_memory_of(back.data, need.work_backward);
    limit = (7.0 * n + 4.0 * m) * e / BANDWIDTH / 1e6;
    snprintf(name, sizeof name, "scan backward, tape %s %zux%zux%zu", type, batch, dim, len);
    if (wanted(name)) {
        ms = milliseconds([&] { ok(ssm_cuda_selective_scan_backward(&s, &g, io, t, bw, NULL), name); });
        report(name, ms, limit, rival_back, bar_back);
    }
    snprintf(name, sizeof name, "scan backward %s %zux%zux%zu", type, batch, dim, len);
    if (wanted(name)) {
        ms = milliseconds(
            [&] { ok(ssm_cuda_selective_scan_backward(&s, &g, io, ssm_memory_of(NULL, 0), bw, NULL), name); });
        report(name, ms, limit, rival_back, 0);
    }
}

/* A graph of 50 steps, as decoding would replay it: time of one. */
static void scan_step(size_t slots, double rival, double bar)
{
    const size_t dim = 5120, n = slots * dim;
    const ssm_format io = SSM_FORMAT_REAL;
    char name[100];
    array u(n, io, -1, 1), delta(n, io, -2, 1), z(n, io, -2, 2), y(n, io, 0, 0), B(slots * 16, io, -1, 1),
        C(slots * 16, io, -1, 1);
    array A(dim * 16, io, -16, -1), D(dim, io, -1, 1), bias(dim, io, -4, -2), state(n * 16, io, -1, 1);
    ssm_selective_scan s;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    int i;
    memset(&s, 0, sizeof s);
    s.batch = slots;
    s.len = 1;
    s.dim = dim;
    s.d_state = 16;
    s.delta_softplus = 1;
    s.u = ssm_in_btc(u.data, 1, dim);
    s.delta = ssm_in_btc(delta.data, 1, dim);
    s.z = ssm_in_btc(z.data, 1, dim);
    s.A = ssm_in_cn(A.data, 16);
    s.B = ssm_in_btcn(B.data, 1, 1, 16);
    s.C = ssm_in_btcn(C.data, 1, 1, 16);
    s.D = ssm_in_c(D.data);
    s.delta_bias = ssm_in_c(bias.data);
    s.y = ssm_out_like(y.data, s.u);
    s.h_last = ssm_out_like(state.data, ssm_in_bcn(state.data, dim, 16));
    snprintf(name, sizeof name, "scan step f32 %zux%zux16, in a graph", slots, dim);
    if (!wanted(name)) return;
    check(cudaStreamCreate(&stream) == cudaSuccess, "stream");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess, "capture");
    for (i = 0; i < 50; ++i) ok(ssm_cuda_selective_scan_step(&s, io, stream), name);
    check(cudaStreamEndCapture(stream, &graph) == cudaSuccess && cudaGraphInstantiate(&run, graph, 0) == cudaSuccess,
          "graph");
    report(name, milliseconds([&] { cudaGraphLaunch(run, 0); }) / 50, 2.0 * n * 64 / BANDWIDTH / 1e6, rival, bar);
}

#include "cuda_ops.h"
#include "cuda_layers.h"

int main(int count, char **arguments)
{
    const ssm_format f32 = SSM_FORMAT_REAL, bf16 = SSM_FORMAT_BF16;
    cudaDeviceProp card;
    names = arguments + 1;
    name_count = count - 1;
    check(cudaGetDeviceProperties(&card, 0) == cudaSuccess, "no GPU");
    printf("%s, %d SMs\n", card.name, card.multiProcessorCount);
    scan(8, 1536, 2048, f32, 0.958, 0.200, 2.320, 0.682);
    scan(8, 1536, 2048, bf16, 0.469, 0.190, 2.016, 0.672);
    scan(64, 1536, 512, f32, 1.806, 0, 4.403, 0);
    scan(64, 1536, 512, bf16, 0.868, 0, 3.358, 0);
    scan(8, 2048, 4096, f32, 2.356, 0, 0, 0);
    scan(1, 1536, 2048, f32, 0.148, 0.055, 0.419, 0);
    scan(1, 1536, 2048, bf16, 0.084, 0, 0.400, 0);
    scan(1, 5120, 8192, f32, 1.678, 0, 3.789, 0);
    scan(1, 1536, 131072, f32, 7.844, 0, 0, 0);
    scan_step(1, 0, 0);
    scan_step(64, 0.0121, 0.010);
    scan_step(256, 0.0534, 0);
    ops();
    layers();
    return 0;
}
