/* speaker.cu - the training of examples/speaker.c on a GPU.
 *
 *   nvcc -O2 -arch=sm_90a -I. examples/cuda/speaker.cu -o speaker && ./speaker [--steps N]
 *
 * Everything that a step of training computes stays on the device: the layers, the loss, its gradients, AdamW. From the
 * host come packed recordings, 20 KB a step. The model that comes back is an ordinary one: it is tested, streamed and
 * rounded by the code of speaker.c, on the CPU.
 * --steps N trains N steps on both and compares every loss. */
#define SSM_CUDA
#define main speaker_main
#include "../speaker.c"
#undef main

static void must_cuda(cudaError_t error)
{
    if (error != cudaSuccess) die(cudaGetErrorString(error));
}

static void *device_memory(size_t bytes)
{
    void *p;
    must_cuda(cudaMalloc(&p, bytes + 16));
    must_cuda(cudaMemset(p, 0, bytes + 16));
    return p;
}

static void to_device(void *device, const void *host, size_t bytes)
{
    must_cuda(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
}

/* The model on the device: a copy of the flat array, and the layers bound to it. */
typedef struct gpu_model {
    const model *host; /* its config and table */
    float *params;
    float *grads;
    float *moments;
    float *loss;
    ssm_mamba mamba;
    ssm_linear embed;
    ssm_linear head;
    ssm_norm norm;
    ssm_memory bound;
} gpu_model;

static void gpu_model_open(gpu_model *g, const model *m)
{
    const size_t bytes = m->table.count * sizeof(float);
    ssm_seqs one = {0};
    ssm_sizes need;
    memset(g, 0, sizeof *g);
    one.batch = one.len = 1;
    g->host = m;
    g->params = (float *)device_memory(bytes);
    g->grads = (float *)device_memory(bytes);
    g->moments = (float *)device_memory(2 * bytes);
    g->loss = (float *)device_memory(sizeof(float));
    to_device(g->params, m->params, bytes);
    must(ssm_cuda_mamba_sizes(&m->config, &one, &need));
    g->bound = ssm_memory_of(device_memory(need.bound), need.bound);
    must(ssm_linear_of(&g->embed, &m->table, "embed.", g->params));
    must(ssm_linear_of(&g->head, &m->table, "head.", g->params));
    must(ssm_norm_of(&g->norm, &m->table, "norm.", g->params));
    must(ssm_cuda_mamba_bind(&g->mamba, &m->config, g->params + m->block, g->bound, NULL));
}

static void gpu_model_close(gpu_model *g)
{
    cudaFree(g->params);
    cudaFree(g->grads);
    cudaFree(g->moments);
    cudaFree(g->loss);
    cudaFree(g->bound.data);
}

/* A batch and every intermediate on the device, laid out as struct batch of the host. */
typedef struct gpu_batch {
    ssm_seqs seqs;
    ssm_mean over_time;
    ssm_cross_entropy entropy;
    size_t *start;
    int *label;
    float *x, *h, *y, *g, *dh, *dy;
    float *mean, *logits, *dmean, *dlogits, *losses;
    ssm_memory tape;
    ssm_memory work; /* of every op: the largest */
} gpu_batch;

static void at_least(size_t *most, size_t bytes)
{
    if (bytes > *most) *most = bytes;
}

static void gpu_batch_open(gpu_batch *b, const gpu_model *g)
{
    const size_t rows = BATCH * MAX_FRAMES, real = sizeof(float);
    size_t work = 0;
    ssm_sizes need;
    memset(b, 0, sizeof *b);
    b->start = (size_t *)device_memory((BATCH + 1) * sizeof(size_t));
    b->label = (int *)device_memory(BATCH * sizeof(int));
    b->x = (float *)device_memory(rows * CHANNELS * real);
    b->h = (float *)device_memory(6 * rows * D_MODEL * real);
    b->y = b->h + rows * D_MODEL;
    b->g = b->y + rows * D_MODEL;
    b->dh = b->g + rows * D_MODEL;
    b->dy = b->dh + rows * D_MODEL;
    b->mean = (float *)device_memory(4 * BATCH * D_MODEL * real);
    b->dmean = b->mean + BATCH * D_MODEL;
    b->logits = b->dmean + BATCH * D_MODEL;
    b->dlogits = b->logits + BATCH * SPEAKERS;
    b->losses = (float *)device_memory(BATCH * real);
    b->seqs.batch = b->over_time.batch = b->entropy.rows = BATCH;
    b->seqs.len = b->over_time.len = rows;
    b->seqs.start = b->over_time.start = b->start;
    b->over_time.dim = D_MODEL;
    b->entropy.dim = SPEAKERS;
    b->entropy.x = ssm_rows_of(b->logits, SPEAKERS);
    b->entropy.label = b->label;
    b->entropy.smoothing = 0.1f;
    must(ssm_cuda_mamba_sizes(&g->host->config, &b->seqs, &need));
    b->tape = ssm_memory_of(device_memory(need.tape), need.tape);
    at_least(&work, need.work);
    at_least(&work, need.work_backward);
    must(ssm_cuda_linear_sizes(&g->embed, rows, SSM_FORMAT_REAL, &need));
    at_least(&work, need.work_backward);
    must(ssm_cuda_linear_sizes(&g->head, BATCH, SSM_FORMAT_REAL, &need));
    at_least(&work, need.work_backward);
    must(ssm_cuda_norm_sizes(&g->norm, rows, SSM_FORMAT_REAL, &need));
    at_least(&work, need.work_backward);
    must(ssm_cuda_cross_entropy_sizes(&b->entropy, SSM_FORMAT_REAL, &need));
    at_least(&work, need.work_backward);
    must(ssm_cuda_adamw_sizes(&g->host->table, &need));
    at_least(&work, need.work);
    b->work = ssm_memory_of(device_memory(work), work);
}

static void gpu_batch_close(gpu_batch *b)
{
    cudaFree(b->start);
    cudaFree(b->label);
    cudaFree(b->x);
    cudaFree(b->h);
    cudaFree(b->mean);
    cudaFree(b->losses);
    cudaFree(b->tape.data);
    cudaFree(b->work.data);
}

/* The recordings that batch_fill packed. */
static void gpu_batch_fill(gpu_batch *g, const batch *b)
{
    const size_t count = b->seqs.batch, rows = b->seqs.len;
    to_device(g->start, b->start, (count + 1) * sizeof(size_t));
    to_device(g->label, b->speaker, count * sizeof(int));
    to_device(g->x, b->x, rows * CHANNELS * sizeof(float));
    g->seqs.batch = g->over_time.batch = g->entropy.rows = count;
    g->seqs.len = g->over_time.len = rows;
}

static ssm_rows rows_of(const float *data, size_t width)
{
    return ssm_rows_of(data, (ptrdiff_t)width);
}

static ssm_rows_out out_of(float *data, size_t width)
{
    return ssm_rows_out_of(data, (ptrdiff_t)width);
}

static void gpu_forward(gpu_batch *b, const gpu_model *m)
{
    const size_t rows = b->seqs.len;
    const ssm_format io = SSM_FORMAT_REAL;
    must(ssm_cuda_linear_forward(&m->embed, rows_of(b->x, CHANNELS), out_of(b->h, D_MODEL), rows, io, NULL));
    must(ssm_cuda_mamba_record(&m->mamba, NULL, b->h, b->y, &b->seqs, b->tape, b->work, NULL));
    must(ssm_cuda_norm_forward(&m->norm, rows_of(b->y, D_MODEL), out_of(b->g, D_MODEL), rows, io, NULL));
    must(ssm_cuda_mean_forward(&b->over_time, rows_of(b->g, D_MODEL), out_of(b->mean, D_MODEL), io, NULL));
    must(ssm_cuda_linear_forward(&m->head, rows_of(b->mean, D_MODEL), out_of(b->logits, SPEAKERS), b->seqs.batch, io,
                                 NULL));
    must(ssm_cuda_cross_entropy_forward(&b->entropy, io, b->losses, m->loss, NULL));
}

static void gpu_zero(float *data, size_t count)
{
    must_cuda(cudaMemsetAsync(data, 0, count * sizeof(float), NULL));
}

static void gpu_linear_backward(const gpu_batch *b, const gpu_model *m, const ssm_linear *l, ssm_rows x, ssm_rows dy,
                                ssm_rows_out dx, size_t rows)
{
    ssm_linear_grad g;
    g.dy = dy;
    g.dx = dx;
    g.dweight = m->grads + (l->weight - m->params);
    g.dbias = m->grads + (l->bias - m->params);
    must(ssm_cuda_linear_backward(l, x, &g, rows, SSM_FORMAT_REAL, b->work, NULL));
}

static void gpu_backward(gpu_batch *b, const gpu_model *m)
{
    const size_t rows = b->seqs.len, count = b->seqs.batch;
    const ssm_format io = SSM_FORMAT_REAL;
    ssm_layer_grad block = {NULL, NULL, NULL, NULL};
    gpu_zero(m->grads, m->host->table.count);
    gpu_zero(b->g, 3 * BATCH * MAX_FRAMES * D_MODEL); /* g, dh and dy */
    gpu_zero(b->dmean, BATCH * D_MODEL);
    gpu_zero(b->dlogits, BATCH * SPEAKERS);
    must(ssm_cuda_cross_entropy_backward(&b->entropy, 1, out_of(b->dlogits, SPEAKERS), io, b->work, NULL));
    gpu_linear_backward(b, m, &m->head, rows_of(b->mean, D_MODEL), rows_of(b->dlogits, SPEAKERS),
                        out_of(b->dmean, D_MODEL), count);
    must(ssm_cuda_mean_backward(&b->over_time, rows_of(b->dmean, D_MODEL), out_of(b->g, D_MODEL), io, NULL));
    must(ssm_cuda_norm_backward(&m->norm, rows_of(b->y, D_MODEL), rows_of(b->g, D_MODEL), out_of(b->dy, D_MODEL),
                                m->grads + (m->norm.weight - m->params), rows, io, b->work, NULL));
    block.dy = b->dy;
    block.dx = b->dh;
    block.dparams = m->grads + m->host->block;
    must(ssm_cuda_mamba_backward(&m->mamba, b->h, &block, &b->seqs, b->tape, b->work, NULL));
    gpu_linear_backward(b, m, &m->embed, rows_of(b->x, CHANNELS), rows_of(b->dh, D_MODEL), ssm_rows_out_of(NULL, 0),
                        rows);
}

/* One step on the device; its loss is only waited for where somebody asks. */
static void gpu_step(gpu_model *m, gpu_batch *b, const ssm_adamw *adamw, size_t step)
{
    gpu_forward(b, m);
    gpu_backward(b, m);
    must(ssm_cuda_adamw_step(adamw, &m->host->table, m->params, m->grads, m->moments, step, NULL, b->work, NULL));
    must(ssm_cuda_mamba_bind(&m->mamba, &m->host->config, m->params + m->host->block, m->bound, NULL));
}

static double gpu_loss(const gpu_model *m)
{
    float loss;
    must_cuda(cudaMemcpy(&loss, m->loss, sizeof loss, cudaMemcpyDeviceToHost));
    return (double)loss;
}

static void gpu_download(const gpu_model *g, model *m)
{
    must_cuda(cudaMemcpy(m->params, g->params, m->table.count * sizeof(float), cudaMemcpyDeviceToHost));
    model_bind(m);
}

/* What both trainings have alike: which recordings come when, and the rate. */
typedef struct course {
    size_t *index;
    size_t count;
    size_t at;
    size_t step;
    ssm_rng rng;
    ssm_schedule schedule;
    ssm_adamw adamw;
} course;

static void course_open(course *c, const dataset *d, uint64_t seed)
{
    size_t i;
    memset(c, 0, sizeof *c);
    c->index = (size_t *)get_memory(d->train * sizeof(size_t));
    for (i = 0; i < d->train; ++i)
        if (!is_held_out(i)) c->index[c->count++] = i;
    c->at = c->count;
    c->rng.state = seed;
    c->schedule.kind = SSM_SCHEDULE_COSINE;
    c->schedule.peak = 5e-3f;
    c->schedule.steps = EPOCHS * ((c->count + BATCH - 1) / BATCH);
    c->schedule.warm_up = c->schedule.steps / 10;
    c->adamw.beta2 = 0.99f;
    c->adamw.weight_decay = 0.05f;
    c->adamw.clip_norm = 1;
}

/* Packs the next batch; returns its recordings. */
static size_t course_next(course *c, batch *b, const model *m, const dataset *d)
{
    size_t n;
    if (c->at >= c->count) {
        shuffle(c->index, c->count, &c->rng);
        c->at = 0;
    }
    n = c->count - c->at < (size_t)BATCH ? c->count - c->at : (size_t)BATCH;
    batch_fill(b, m, d, c->index + c->at, n, &c->rng);
    c->at += n;
    c->adamw.lr = ssm_schedule_rate(&c->schedule, ++c->step);
    return n;
}

static void gpu_train(model *m, const dataset *d)
{
    const clock_t begin = clock();
    size_t epoch;
    gpu_model g;
    gpu_batch gb;
    course c;
    batch b;
    model_standardise(m, d);
    must(ssm_params_init(&m->table, m->params, 1));
    batch_open(&b, m);
    gpu_model_open(&g, m);
    gpu_batch_open(&gb, &g);
    course_open(&c, d, 1);
    for (epoch = 1; epoch <= EPOCHS; ++epoch) {
        double loss = 0;
        do {
            const size_t n = course_next(&c, &b, m, d);
            gpu_batch_fill(&gb, &b);
            gpu_step(&g, &gb, &c.adamw, c.step);
            loss += gpu_loss(&g) * (double)n / (double)c.count;
        } while (c.at < c.count);
        if (epoch % 9 == 0)
            printf("  epoch %2lu  loss %.3f  %4.1f s\n", (unsigned long)epoch, loss,
                   (double)(clock() - begin) / CLOCKS_PER_SEC);
    }
    gpu_download(&g, m);
    free(c.index);
    batch_close(&b);
    gpu_batch_close(&gb);
    gpu_model_close(&g);
}

/* Trains on both sides for some steps; how far the losses come apart, relative. */
static double compare_steps(const dataset *d, size_t steps)
{
    double worst = 0;
    size_t i;
    ssm_real *grads, *moments;
    gpu_model g;
    gpu_batch gb;
    course c;
    batch b;
    model m;
    model_open(&m, SSM_FORMAT_REAL);
    model_standardise(&m, d);
    must(ssm_params_init(&m.table, m.params, 1));
    model_bind(&m);
    grads = (ssm_real *)get_memory(m.table.count * sizeof *grads);
    moments = (ssm_real *)get_memory(2 * m.table.count * sizeof *moments);
    batch_open(&b, &m);
    gpu_model_open(&g, &m);
    gpu_batch_open(&gb, &g);
    course_open(&c, d, 1);
    for (i = 0; i < steps; ++i) {
        double host, device;
        course_next(&c, &b, &m, d);
        gpu_batch_fill(&gb, &b);
        gpu_step(&g, &gb, &c.adamw, c.step);
        memset(grads, 0, m.table.count * sizeof *grads);
        batch_forward(&b, &m, 1);
        host = batch_backward(&b, &m, grads);
        must(ssm_adamw_step(&c.adamw, &m.table, m.params, grads, moments, c.step, NULL));
        model_bind(&m);
        device = gpu_loss(&g);
        if (!(fabs(device - host) <= worst * host)) worst = fabs(device - host) / host;
        if (i == 0 || i + 1 == steps)
            printf("  step %3lu  loss %.6f on the GPU, %.6f on the CPU\n", (unsigned long)(i + 1), device, host);
    }
    free(c.index);
    free(grads);
    free(moments);
    batch_close(&b);
    gpu_batch_close(&gb);
    gpu_model_close(&g);
    model_close(&m);
    return worst;
}

int main(int argc, char **argv)
{
    dataset d = load_data("examples/data/japanese_vowels.bin");
    double result;
    model m;
    if (argc == 3 && !strcmp(argv[1], "--steps")) {
        result = compare_steps(&d, (size_t)strtoul(argv[2], NULL, 10));
        printf("losses agree within %.1e\n", result);
        return result < 1e-3 ? 0 : 1;
    }
    if (argc > 1) die("usage: speaker [--steps N]");
    model_open(&m, SSM_FORMAT_REAL);
    gpu_train(&m, &d);
    result = test(&m, &d, NULL);
    printf("test accuracy %.2f %%, trained on the GPU, tested on the CPU\n", 100 * result);
    model_close(&m);
    free(d.item);
    free(d.samples);
    return result > 0.965 ? 0 : 1;
}
