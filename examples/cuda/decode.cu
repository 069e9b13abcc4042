/* decode.cu - a Mamba language model that writes by itself: a token is one replay of a CUDA graph.
 *
 *   nvcc -O2 -arch=sm_90a -I. examples/cuda/decode.cu -o decode && ./decode [TOKENS [LAYERS [D_MODEL [WORDS]]]]
 *
 * The model has the shape of mamba-130m and random weights, as if it were untrained; those of a checkpoint would go into
 * the same flat array, by the names in its table. The graph reads the token where it left it, so the host only says how
 * often: embedding, blocks, RMSNorm, the head (the embedding's matrix once more), and the likeliest word. The same
 * tokens come from calls without a graph. */
#define SSM_CUDA
#define SSM_IMPLEMENTATION
#include "ssm.h"

#include <stdio.h>
#include <stdlib.h>
#include <vector>

static void must(ssm_status status)
{
    if (status == SSM_OK) return;
    fprintf(stderr, "decode: %s\n", ssm_status_string(status));
    exit(1);
}

static void must_cuda(cudaError_t error)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "decode: %s\n", cudaGetErrorString(error));
    exit(1);
}

static void *device_memory(size_t bytes)
{
    void *p;
    must_cuda(cudaMalloc(&p, bytes));
    must_cuda(cudaMemset(p, 0, bytes));
    return p;
}

/* The word with the largest logit: a block of 256, each with every 256th word; the first of several. */
typedef struct choice {
    const float *logits;
    int words;
    int *token;
    int *text; /* [tokens], the next one at text[*count] */
    int *count;
} choice;

__global__ void choose(const choice c)
{
    __shared__ float best[256];
    __shared__ int word[256];
    const int me = (int)threadIdx.x;
    int i, half;
    best[me] = -1e30f;
    word[me] = 0;
    for (i = me; i < c.words; i += 256)
        if (c.logits[i] > best[me]) {
            best[me] = c.logits[i];
            word[me] = i;
        }
    for (half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (me < half && (best[me + half] > best[me] || (best[me + half] == best[me] && word[me + half] < word[me]))) {
            best[me] = best[me + half];
            word[me] = word[me + half];
        }
    }
    if (me > 0) return;
    *c.token = word[0];
    c.text[(*c.count)++] = word[0];
}

typedef struct language_model {
    size_t layers, d_model, words;
    ssm_mamba_config config;
    std::vector<ssm_mamba> block;
    std::vector<float *> state;
    ssm_embedding embedding;
    ssm_norm norm;
    ssm_linear head;
    ssm_sizes need; /* of one block */
    ssm_memory work;
    float *x, *logits;
    choice next;
} language_model;

/* Random weights of a block, and the block itself. */
static void add_block(language_model *m, uint64_t seed)
{
    const size_t count = m->need.params / sizeof(float);
    std::vector<float> host(count);
    float *params = (float *)device_memory(m->need.params);
    const ssm_memory bound = ssm_memory_of(device_memory(m->need.bound), m->need.bound);
    ssm_mamba layer;
    must(ssm_mamba_init(&m->config, host.data(), seed));
    must_cuda(cudaMemcpy(params, host.data(), m->need.params, cudaMemcpyHostToDevice));
    must(ssm_cuda_mamba_bind(&layer, &m->config, params, bound, NULL));
    must_cuda(cudaDeviceSynchronize());
    cudaFree(params); /* the block has all that a step reads */
    m->block.push_back(layer);
    m->state.push_back((float *)device_memory(m->need.state));
}

static void open_model(language_model *m, int tokens)
{
    const ssm_rng start = {7};
    ssm_rng rng = start;
    std::vector<float> host(m->words * m->d_model), ones(m->d_model, 1.0f);
    float *matrix = (float *)device_memory(host.size() * sizeof(float)), *weight;
    ssm_seqs one = {};
    size_t i;
    one.batch = one.len = 1;
    m->config.d_model = m->d_model;
    m->config.pre_norm = m->config.residual = 1;
    must(ssm_cuda_mamba_sizes(&m->config, &one, &m->need));
    m->work = ssm_memory_of(device_memory(m->need.work_step), m->need.work_step);
    for (i = 0; i < m->layers; ++i) add_block(m, i + 1);
    for (i = 0; i < host.size(); ++i) host[i] = 0.02f * ssm_rng_normal(&rng);
    must_cuda(cudaMemcpy(matrix, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice));
    weight = (float *)device_memory(m->d_model * sizeof(float));
    must_cuda(cudaMemcpy(weight, ones.data(), m->d_model * sizeof(float), cudaMemcpyHostToDevice));
    m->embedding.dim = m->head.in = m->norm.dim = m->d_model;
    m->embedding.count = m->head.out = m->words;
    m->embedding.weight = m->head.weight = matrix;
    m->norm.weight = weight;
    m->x = (float *)device_memory(m->d_model * sizeof(float));
    m->logits = (float *)device_memory(m->words * sizeof(float));
    m->next.logits = m->logits;
    m->next.words = (int)m->words;
    m->next.token = (int *)device_memory(sizeof(int));
    m->next.text = (int *)device_memory((size_t)tokens * sizeof(int));
    m->next.count = (int *)device_memory(sizeof(int));
}

/* One token: all that a graph captures. */
static void write_token(const language_model *m, cudaStream_t stream)
{
    const ssm_format io = SSM_FORMAT_REAL;
    const ssm_rows x = ssm_rows_of(m->x, (ptrdiff_t)m->d_model);
    const ssm_rows_out x_out = ssm_rows_out_of(m->x, (ptrdiff_t)m->d_model);
    choice next = m->next;
    void *arguments[1];
    size_t i;
    must(ssm_cuda_embedding_forward(&m->embedding, m->next.token, x_out, 1, io, stream));
    for (i = 0; i < m->layers; ++i)
        must(ssm_cuda_mamba_step(&m->block[i], m->state[i], m->x, m->x, 1, m->work, stream));
    must(ssm_cuda_norm_forward(&m->norm, x, x_out, 1, io, stream));
    must(ssm_cuda_linear_forward(&m->head, x, ssm_rows_out_of(m->logits, (ptrdiff_t)m->words), 1, io, stream));
    arguments[0] = &next;
    must_cuda(cudaLaunchKernel(choose, dim3(1), dim3(256), arguments, 0, stream));
}

/* As at the beginning of a text: word 0. */
static void start_text(const language_model *m)
{
    size_t i;
    for (i = 0; i < m->layers; ++i) must_cuda(cudaMemset(m->state[i], 0, m->need.state));
    must_cuda(cudaMemset(m->next.token, 0, sizeof(int)));
    must_cuda(cudaMemset(m->next.count, 0, sizeof(int)));
}

static std::vector<int> text_of(const language_model *m, int tokens)
{
    std::vector<int> text((size_t)tokens);
    must_cuda(cudaMemcpy(text.data(), m->next.text, text.size() * sizeof(int), cudaMemcpyDeviceToHost));
    return text;
}

/* Milliseconds for all tokens. */
static float replay(const language_model *m, int tokens)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t token;
    cudaEvent_t begin, end;
    float time;
    int i;
    must_cuda(cudaStreamCreate(&stream));
    must_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    write_token(m, stream);
    must_cuda(cudaStreamEndCapture(stream, &graph));
    must_cuda(cudaGraphInstantiate(&token, graph, 0));
    must_cuda(cudaEventCreate(&begin));
    must_cuda(cudaEventCreate(&end));
    start_text(m);
    must_cuda(cudaDeviceSynchronize());
    must_cuda(cudaEventRecord(begin, stream));
    for (i = 0; i < tokens; ++i) must_cuda(cudaGraphLaunch(token, stream));
    must_cuda(cudaEventRecord(end, stream));
    must_cuda(cudaEventSynchronize(end));
    must_cuda(cudaEventElapsedTime(&time, begin, end));
    return time;
}

int main(int argc, char **argv)
{
    const int tokens = argc > 1 ? atoi(argv[1]) : 200;
    language_model m = {};
    std::vector<int> called, replayed;
    float time;
    int i;
    m.layers = argc > 2 ? (size_t)atoi(argv[2]) : 24;
    m.d_model = argc > 3 ? (size_t)atoi(argv[3]) : 768;
    m.words = argc > 4 ? (size_t)atoi(argv[4]) : 50280;
    if (tokens < 1 || m.words == 0) {
        fprintf(stderr, "usage: decode [TOKENS [LAYERS [D_MODEL [WORDS]]]]\n");
        return 1;
    }
    open_model(&m, tokens);
    start_text(&m);
    for (i = 0; i < tokens; ++i) write_token(&m, NULL);
    called = text_of(&m, tokens);
    time = replay(&m, tokens);
    replayed = text_of(&m, tokens);
    for (i = 0; i < tokens && i < 10; ++i) printf(" %d", replayed[(size_t)i]);
    printf("%s\n%lu layers, d_model %lu: %.1f us a token, %.0f tokens a second\n", tokens > 10 ? " ..." : "",
           (unsigned long)m.layers, (unsigned long)m.d_model, 1e3 * time / tokens, 1e3 * tokens / time);
    printf("graph and calls write %s\n", called == replayed ? "the same text" : "DIFFERENT texts");
    return called == replayed ? 0 : 1;
}
