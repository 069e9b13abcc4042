/* speaker.c - who is speaking? A Mamba classifier trained, tested and streamed in plain C.
 *
 *   speaker [--seeds N] [--data FILE] [--model FILE] [--firmware FOLDER] [--load FILE]
 *
 * The data are real: 640 recordings of nine men saying two Japanese vowels, 12 LPC cepstrum
 * coefficients per frame, 7 to 29 frames each (examples/data/README.md). The model:
 *
 *   x (12) -> standardise -> linear 32 -> Mamba block -> RMSNorm -> mean over time -> linear 9
 *
 * The program trains it, tests it on recordings it has never seen, streams test recordings one
 * frame at a time, and in the middle of one of them saves weights and state to a file, loads them
 * into a new model and goes on. Then it rounds the weights to bf16 and to int8 and tests again; --firmware
 * writes each model as a C table, with recordings and the answers expected, into FOLDER/real/model.h,
 * FOLDER/bf16/model.h and FOLDER/int8/model.h (examples/firmware). --seeds N trains N times from N seeds and
 * prints the accuracies. --load reads the weights from such a file, of this or any other machine, instead of
 * training. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 1 /* for isatty */
#endif
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CHANNELS = 12,
    SPEAKERS = 9,
    D_MODEL = 32,
    MAX_FRAMES = 32, /* of one recording */
    BATCH = 16,
    EPOCHS = 45,
    HOLD_OUT = 10, /* every 10th training recording is only listened to, to watch the training */
    TABLE_ROWS = 32
};

static void die(const char *what)
{
    fprintf(stderr, "speaker: %s\n", what);
    exit(1);
}

static void must(ssm_status status)
{
    if (status != SSM_OK) die(ssm_status_string(status));
}

static void *get_memory(size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) die("out of memory");
    return p;
}

static ssm_memory get_block(size_t bytes)
{
    return ssm_memory_of(get_memory(bytes), bytes);
}

/* ---- data ------------------------------------------------------------------------------ */

typedef struct recording {
    int speaker;
    size_t frames;
    const ssm_real *x; /* [frames][CHANNELS] */
} recording;

typedef struct dataset {
    recording *item; /* training recordings first */
    size_t train;
    size_t test;
    ssm_real *samples;
} dataset;

static unsigned long get_u32(const unsigned char *p)
{
    return p[0] | (unsigned long)p[1] << 8 | (unsigned long)p[2] << 16 | (unsigned long)p[3] << 24;
}

static float get_f32(const unsigned char *p)
{
    const uint32_t bits = (uint32_t)get_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static unsigned char *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    unsigned char *data;
    long size;
    if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET)) {
        fprintf(stderr, "speaker: cannot read %s\n", path);
        exit(1);
    }
    data = (unsigned char *)get_memory((size_t)size);
    *bytes = fread(data, 1, (size_t)size, file);
    fclose(file);
    return data;
}

static dataset load_data(const char *path)
{
    size_t bytes, i, k, frames, at = 0;
    unsigned char *file = read_file(path, &bytes);
    const unsigned char *p;
    dataset d;
    if (bytes < 32 || memcmp(file, "JVOW", 4) || get_u32(file + 4) != 1 || get_u32(file + 8) != CHANNELS ||
        get_u32(file + 12) != SPEAKERS)
        die("not the data file of this example");
    d.train = get_u32(file + 16);
    d.test = get_u32(file + 20);
    frames = get_u32(file + 24) + get_u32(file + 28);
    if (d.train + d.test > 10000 || frames > 1000000 || bytes != 32 + 4 * (d.train + d.test) + 4 * CHANNELS * frames)
        die("the data file is damaged");
    d.item = (recording *)get_memory((d.train + d.test) * sizeof *d.item);
    d.samples = (ssm_real *)get_memory(frames * CHANNELS * sizeof *d.samples);
    for (i = 0, p = file + 32; i < d.train + d.test; ++i, p += 4) {
        d.item[i].speaker = p[0] | p[1] << 8;
        d.item[i].frames = (size_t)(p[2] | p[3] << 8);
        d.item[i].x = d.samples + at * CHANNELS;
        at += d.item[i].frames;
        if (d.item[i].speaker >= SPEAKERS || d.item[i].frames == 0 || d.item[i].frames > MAX_FRAMES || at > frames)
            die("the data file is damaged");
    }
    for (k = 0; k < frames * CHANNELS; ++k, p += 4) d.samples[k] = get_f32(p);
    free(file);
    return d;
}

static int is_held_out(size_t i)
{
    return i % HOLD_OUT == 0;
}

/* ---- model ----------------------------------------------------------------------------- */

/* One table, one flat array for all layers; each lies where the table says. */
typedef struct model {
    ssm_mamba_config config;
    ssm_param rows[TABLE_ROWS];
    ssm_params table;
    size_t block; /* where the Mamba block begins in the flat array */
    ssm_real *params;
    ssm_real mean[CHANNELS]; /* of the training frames */
    ssm_real scale[CHANNELS];
    ssm_mamba mamba; /* bound to params */
    ssm_linear embed;
    ssm_linear head;
    ssm_norm norm;
    ssm_memory bound;
    ssm_memory embed_packed;
    ssm_memory head_packed;
} model;

/* The linear layer of the rows `prefix`..., and room for its packed matrix. */
static void linear_open(const model *m, ssm_linear *l, const char *prefix, ssm_format format, ssm_memory *packed)
{
    size_t bytes;
    must(ssm_linear_of(l, &m->table, prefix, m->params));
    l->format = format;
    must(ssm_linear_pack_size(l, &bytes));
    *packed = get_block(bytes);
}

static void linear_bind(ssm_linear *l, ssm_memory packed)
{
    must(ssm_linear_pack(l, packed));
    l->packed = packed.data;
}

/* Describes the model: one table, one flat array for all layers. Matrices are stored in `format`. */
static void model_open(model *m, ssm_format format)
{
    ssm_seqs one = {0};
    ssm_sizes need;
    memset(m, 0, sizeof *m);
    m->config.format = format;
    m->config.d_model = D_MODEL;
    m->config.pre_norm = 1;
    m->config.residual = 1;
    m->table = ssm_params_of(m->rows, TABLE_ROWS);
    must(ssm_linear_params(CHANNELS, D_MODEL, 1, "embed.", &m->table));
    must(ssm_mamba_params(&m->config, "mamba.", &m->table));
    must(ssm_norm_params(D_MODEL, "norm.", &m->table));
    must(ssm_linear_params(D_MODEL, SPEAKERS, 1, "head.", &m->table));
    must(ssm_params_layer(&m->table, "mamba.", &m->block));
    m->params = (ssm_real *)get_memory(m->table.count * sizeof(ssm_real));
    one.batch = one.len = 1;
    must(ssm_mamba_sizes(&m->config, &one, &need));
    m->bound = get_block(need.bound);
    must(ssm_norm_of(&m->norm, &m->table, "norm.", m->params));
    linear_open(m, &m->embed, "embed.", format, &m->embed_packed);
    linear_open(m, &m->head, "head.", format, &m->head_packed);
}

static void model_close(model *m)
{
    free(m->params);
    free(m->bound.data);
    free(m->embed_packed.data);
    free(m->head_packed.data);
}

/* After every change of the weights. */
static void model_bind(model *m)
{
    must(ssm_mamba_bind(&m->mamba, &m->config, m->params + m->block, m->bound));
    linear_bind(&m->embed, m->embed_packed);
    linear_bind(&m->head, m->head_packed);
}

/* The same weights in another format. */
static void model_round(model *m, const model *from, ssm_format format)
{
    model_open(m, format);
    memcpy(m->params, from->params, m->table.count * sizeof *m->params);
    memcpy(m->mean, from->mean, sizeof m->mean);
    memcpy(m->scale, from->scale, sizeof m->scale);
    model_bind(m);
}

/* Bytes of what a program that only listens keeps of the model. */
static size_t model_bytes(const model *m)
{
    return m->mamba.bound.bytes + m->embed_packed.bytes + m->head_packed.bytes +
           (2 * CHANNELS + 2 * D_MODEL + SPEAKERS) * sizeof(ssm_real);
}

/* Mean and deviation of the training frames. */
static void model_standardise(model *m, const dataset *d)
{
    double sum[CHANNELS] = {0}, square[CHANNELS] = {0}, n = 0;
    size_t i, k, t;
    for (i = 0; i < d->train; ++i) {
        for (t = 0; t < d->item[i].frames && !is_held_out(i); ++t, ++n) {
            for (k = 0; k < CHANNELS; ++k) {
                const double x = (double)d->item[i].x[t * CHANNELS + k];
                sum[k] += x;
                square[k] += x * x;
            }
        }
    }
    for (k = 0; k < CHANNELS; ++k) {
        m->mean[k] = (ssm_real)(sum[k] / n);
        m->scale[k] = (ssm_real)(1 / sqrt(square[k] / n - sum[k] * sum[k] / n / n));
    }
}

static void standardise(const model *m, const ssm_real *x, ssm_real *out)
{
    size_t k;
    for (k = 0; k < CHANNELS; ++k) out[k] = (x[k] - m->mean[k]) * m->scale[k];
}

/* ---- streaming: one frame in, the current opinion out ------------------------------------ */

typedef struct stream {
    ssm_real *state; /* of the Mamba block: all zero at the start of a recording */
    size_t state_count;
    ssm_real sum[D_MODEL]; /* of the normalised outputs so far */
    size_t frames;
    ssm_memory work;
} stream;

static void stream_open(stream *s, const model *m)
{
    ssm_seqs one = {0};
    ssm_sizes need;
    memset(s, 0, sizeof *s);
    one.batch = one.len = 1;
    must(ssm_mamba_sizes(&m->config, &one, &need));
    s->state_count = need.state / sizeof(ssm_real);
    s->state = (ssm_real *)get_memory(need.state);
    s->work = get_block(need.work);
}

static void stream_reset(stream *s)
{
    memset(s->state, 0, s->state_count * sizeof *s->state);
    memset(s->sum, 0, sizeof s->sum);
    s->frames = 0;
}

static void stream_close(stream *s)
{
    free(s->state);
    free(s->work.data);
}

static void classify(const model *m, const ssm_real *sum, size_t frames, ssm_real *logits)
{
    ssm_real mean[D_MODEL];
    size_t i;
    for (i = 0; i < D_MODEL; ++i) mean[i] = sum[i] / (ssm_real)frames;
    must(ssm_linear_forward(&m->head, ssm_rows_of(mean, 0), ssm_rows_out_of(logits, 0), 1));
}

static void stream_frame(stream *s, const model *m, const ssm_real *frame, ssm_real *logits)
{
    ssm_real x[CHANNELS], h[D_MODEL];
    size_t i;
    standardise(m, frame, x);
    must(ssm_linear_forward(&m->embed, ssm_rows_of(x, 0), ssm_rows_out_of(h, 0), 1));
    must(ssm_mamba_step(&m->mamba, s->state, h, h, 1, s->work));
    must(ssm_norm_forward(&m->norm, ssm_rows_of(h, 0), ssm_rows_out_of(h, 0), 1));
    for (i = 0; i < D_MODEL; ++i) s->sum[i] += h[i];
    s->frames += 1;
    classify(m, s->sum, s->frames, logits);
}

/* ---- whole sequences: training and testing ------------------------------------------------ */

/* A batch of recordings packed end to end, and every intermediate the gradient needs. */
typedef struct batch {
    size_t start[BATCH + 1];
    int speaker[BATCH];
    ssm_seqs seqs;
    ssm_mean over_time;
    ssm_cross_entropy loss;
    ssm_sizes need; /* for a full batch of the longest recordings */
    ssm_real *x;    /* [rows][CHANNELS] standardised frames */
    ssm_real *h;    /* [rows][D_MODEL] embedded */
    ssm_real *y;    /* [rows][D_MODEL] after the block */
    ssm_real *g;    /* [rows][D_MODEL] after the norm; then gradients */
    ssm_real *dh;
    ssm_real *dy;
    ssm_real mean[BATCH][D_MODEL];
    ssm_real logits[BATCH][SPEAKERS];
    ssm_real dlogits[BATCH][SPEAKERS];
    ssm_real losses[BATCH];
    ssm_memory tape;
    ssm_memory work;
} batch;

static void batch_open(batch *b, const model *m)
{
    const size_t rows = BATCH * MAX_FRAMES;
    size_t i;
    memset(b, 0, sizeof *b);
    for (i = 0; i <= BATCH; ++i) b->start[i] = i * MAX_FRAMES;
    b->seqs.batch = BATCH;
    b->seqs.len = rows;
    b->seqs.start = b->start;
    b->over_time.dim = D_MODEL;
    b->over_time.start = b->start;
    b->loss.dim = SPEAKERS;
    b->loss.x = ssm_rows_of(b->logits[0], SPEAKERS);
    b->loss.label = b->speaker;
    b->loss.smoothing = (ssm_real)0.1;
    must(ssm_mamba_sizes(&m->config, &b->seqs, &b->need));
    b->work = get_block((b->need.work > b->need.work_backward ? b->need.work : b->need.work_backward) + b->need.state);
    b->tape = get_block(b->need.tape);
    b->x = (ssm_real *)get_memory(rows * CHANNELS * sizeof(ssm_real));
    b->h = (ssm_real *)get_memory(5 * rows * D_MODEL * sizeof(ssm_real));
    b->y = b->h + rows * D_MODEL;
    b->g = b->y + rows * D_MODEL;
    b->dh = b->g + rows * D_MODEL;
    b->dy = b->dh + rows * D_MODEL;
}

static void batch_close(batch *b)
{
    free(b->work.data);
    free(b->tape.data);
    free(b->x);
    free(b->h);
}

/* Packs recordings; with a generator, each gets a random offset per channel and noise per frame. */
static void batch_fill(batch *b, const model *m, const dataset *d, const size_t *index, size_t count, ssm_rng *rng)
{
    const ssm_real amount = (ssm_real)0.4;
    ssm_real shift[CHANNELS] = {0}, *x = b->x;
    size_t i, k, t;
    b->start[0] = 0;
    for (i = 0; i < count; ++i) {
        const recording *r = &d->item[index[i]];
        b->speaker[i] = r->speaker;
        b->start[i + 1] = b->start[i] + r->frames;
        for (k = 0; rng && k < CHANNELS; ++k) shift[k] = amount * ssm_rng_normal(rng);
        for (t = 0; t < r->frames; ++t, x += CHANNELS) {
            standardise(m, r->x + t * CHANNELS, x);
            for (k = 0; rng && k < CHANNELS; ++k) x[k] += shift[k] + amount * ssm_rng_normal(rng);
        }
    }
    b->seqs.batch = b->over_time.batch = b->loss.rows = count;
    b->seqs.len = b->over_time.len = b->start[count];
}

static void batch_forward(batch *b, const model *m, int record)
{
    const size_t rows = b->seqs.len;
    must(ssm_linear_forward(&m->embed, ssm_rows_of(b->x, CHANNELS), ssm_rows_out_of(b->h, D_MODEL), rows));
    if (record) must(ssm_mamba_record(&m->mamba, NULL, b->h, b->y, &b->seqs, b->tape, b->work));
    else must(ssm_mamba_forward(&m->mamba, NULL, b->h, b->y, &b->seqs, b->work));
    must(ssm_norm_forward(&m->norm, ssm_rows_of(b->y, D_MODEL), ssm_rows_out_of(b->g, D_MODEL), rows));
    must(ssm_mean_forward(&b->over_time, ssm_rows_of(b->g, D_MODEL), ssm_rows_out_of(b->mean[0], D_MODEL)));
    must(ssm_linear_forward(&m->head, ssm_rows_of(b->mean[0], D_MODEL), ssm_rows_out_of(b->logits[0], SPEAKERS),
                            b->seqs.batch));
}

/* Where the gradient of a weight lies: as the weight in the flat array. */
static ssm_real *grad_of(const model *m, ssm_real *grads, const ssm_real *weight)
{
    return grads + (weight - m->params);
}

static void linear_backward(const model *m, const ssm_linear *l, ssm_rows x, ssm_rows dy, ssm_rows_out dx,
                            ssm_real *grads, size_t rows)
{
    must(ssm_linear_backward(l, x, dy, dx, grad_of(m, grads, l->weight), grad_of(m, grads, l->bias), rows));
}

/* After batch_forward with record: adds to the gradients; returns the loss. */
static double batch_backward(batch *b, const model *m, ssm_real *grads)
{
    const size_t rows = b->seqs.len;
    ssm_real dmean[BATCH][D_MODEL], loss;
    memset(dmean, 0, sizeof dmean);
    memset(b->dlogits, 0, sizeof b->dlogits);
    memset(b->dh, 0, 2 * BATCH * MAX_FRAMES * D_MODEL * sizeof(ssm_real)); /* dh and dy */
    must(ssm_cross_entropy_forward(&b->loss, b->losses, &loss));
    must(ssm_cross_entropy_backward(&b->loss, 1, ssm_rows_out_of(b->dlogits[0], SPEAKERS)));
    linear_backward(m, &m->head, ssm_rows_of(b->mean[0], D_MODEL), ssm_rows_of(b->dlogits[0], SPEAKERS),
                    ssm_rows_out_of(dmean[0], D_MODEL), grads, b->seqs.batch);
    memset(b->g, 0, rows * D_MODEL * sizeof *b->g);
    must(ssm_mean_backward(&b->over_time, ssm_rows_of(dmean[0], D_MODEL), ssm_rows_out_of(b->g, D_MODEL)));
    must(ssm_norm_backward(&m->norm, ssm_rows_of(b->y, D_MODEL), ssm_rows_of(b->g, D_MODEL),
                           ssm_rows_out_of(b->dy, D_MODEL), grad_of(m, grads, m->norm.weight), rows));
    must(ssm_mamba_backward(&m->mamba, NULL, b->h, b->dy, b->dh, grads + m->block, &b->seqs, b->tape, b->work));
    linear_backward(m, &m->embed, ssm_rows_of(b->x, CHANNELS), ssm_rows_of(b->dh, D_MODEL), ssm_rows_out_of(NULL, 0),
                    grads, rows);
    return (double)loss;
}

static int best_of(const ssm_real *logits)
{
    int best = 0, k;
    for (k = 1; k < SPEAKERS; ++k)
        if (logits[k] > logits[best]) best = k;
    return best;
}

/* Fraction right among `count` recordings; counts[speaker][answer] if wanted. */
static double accuracy(const model *m, batch *b, const dataset *d, const size_t *index, size_t count,
                       int (*counts)[SPEAKERS])
{
    size_t at, i, right = 0;
    for (at = 0; at < count; at += BATCH) {
        const size_t n = count - at < BATCH ? count - at : BATCH;
        batch_fill(b, m, d, index + at, n, NULL);
        batch_forward(b, m, 0);
        for (i = 0; i < n; ++i) {
            const int answer = best_of(b->logits[i]);
            right += answer == b->speaker[i];
            if (counts) counts[b->speaker[i]][answer] += 1;
        }
    }
    return count ? (double)right / (double)count : 0;
}

/* ---- training ----------------------------------------------------------------------------- */

static void shuffle(size_t *index, size_t count, ssm_rng *rng)
{
    for (; count > 1; --count) {
        const size_t j = (size_t)(ssm_rng_next(rng) % count), last = index[count - 1];
        index[count - 1] = index[j];
        index[j] = last;
    }
}

/* Whether somebody watches: in a file a bar that is drawn over itself is noise. */
static int watched(void)
{
#if defined(__unix__) || defined(__APPLE__)
    return isatty(1);
#else
    return 1;
#endif
}

/* The bar of a training; in a file only the lines that stay. */
static void progress(size_t epoch, double loss, double held_out, double seconds)
{
    char bar[31];
    size_t i;
    if (epoch % 9 != 0 && !watched()) return;
    for (i = 0; i < 30; ++i) bar[i] = i < epoch * 30 / EPOCHS ? '#' : '.';
    bar[30] = 0;
    printf("%s  [%s] epoch %2lu  loss %.3f  held out %5.1f %%  %4.1f s", watched() ? "\r" : "", bar,
           (unsigned long)epoch, loss, 100 * held_out, seconds);
    if (epoch % 9 == 0) printf("\n");
    fflush(stdout);
}

static void train(model *m, const dataset *d, uint64_t seed, int verbose)
{
    const clock_t begin = clock();
    size_t *train_set = (size_t *)get_memory(d->train * sizeof(size_t)), *held_out = train_set, i, epoch, step = 0;
    size_t train_count = 0, held_count = 0;
    ssm_real *grads = (ssm_real *)get_memory(m->table.count * sizeof(ssm_real));
    ssm_real *moments = (ssm_real *)get_memory(2 * m->table.count * sizeof(ssm_real));
    ssm_schedule schedule = {SSM_SCHEDULE_COSINE, 0, 0, 0, 0}; /* after a warm-up over the first tenth */
    ssm_adamw adamw = {0};
    ssm_rng rng;
    batch b;
    rng.state = seed;
    adamw.beta2 = (ssm_real)0.99;
    adamw.weight_decay = (ssm_real)0.05;
    adamw.clip_norm = 1;
    model_standardise(m, d);
    must(ssm_params_init(&m->table, m->params, seed));
    model_bind(m);
    batch_open(&b, m);
    for (i = 0; i < d->train; ++i) /* held out from the end, training from the front */
        if (is_held_out(i)) train_set[d->train - ++held_count] = i;
        else train_set[train_count++] = i;
    held_out = train_set + train_count;
    schedule.peak = (ssm_real)5e-3;
    schedule.steps = EPOCHS * ((train_count + BATCH - 1) / BATCH);
    schedule.warm_up = schedule.steps / 10;
    for (epoch = 1; epoch <= EPOCHS; ++epoch) {
        double loss = 0;
        shuffle(train_set, train_count, &rng);
        for (i = 0; i < train_count; i += BATCH) {
            const size_t n = train_count - i < BATCH ? train_count - i : BATCH;
            memset(grads, 0, m->table.count * sizeof *grads);
            batch_fill(&b, m, d, train_set + i, n, &rng);
            batch_forward(&b, m, 1);
            loss += batch_backward(&b, m, grads) * (double)n / (double)train_count;
            adamw.lr = ssm_schedule_rate(&schedule, ++step);
            must(ssm_adamw_step(&adamw, &m->table, m->params, grads, moments, step, NULL));
            model_bind(m);
        }
        if (verbose)
            progress(epoch, loss, accuracy(m, &b, d, held_out, held_count, NULL),
                     (double)(clock() - begin) / CLOCKS_PER_SEC);
    }
    batch_close(&b);
    free(train_set);
    free(grads);
    free(moments);
}

static size_t *test_index(const dataset *d)
{
    size_t *index = (size_t *)get_memory(d->test * sizeof(size_t)), i;
    for (i = 0; i < d->test; ++i) index[i] = d->train + i;
    return index;
}

static double test(const model *m, const dataset *d, int (*counts)[SPEAKERS])
{
    size_t *index = test_index(d);
    double right;
    batch b;
    batch_open(&b, m);
    right = accuracy(m, &b, d, index, d->test, counts);
    batch_close(&b);
    free(index);
    return right;
}

static void print_confusion(int (*counts)[SPEAKERS])
{
    int i, k;
    printf("\n          answered\n  speaker");
    for (k = 0; k < SPEAKERS; ++k) printf("%5d", k + 1);
    printf("\n");
    for (i = 0; i < SPEAKERS; ++i) {
        printf("  %7d", i + 1);
        for (k = 0; k < SPEAKERS; ++k)
            if (counts[i][k]) printf("%5d", counts[i][k]);
            else printf("    .");
        printf("\n");
    }
}

/* ---- the streaming part -------------------------------------------------------------------- */

/* One recording frame by frame: a column for each frame, a row for each speaker with any say. */
static void draw_stream(stream *s, const model *m, const recording *r)
{
    static const char shade[] = " .:-=+*#%@";
    ssm_real logits[SPEAKERS];
    char picture[SPEAKERS][MAX_FRAMES + 1];
    size_t t;
    int k;
    memset(picture, 0, sizeof picture);
    stream_reset(s);
    for (t = 0; t < r->frames; ++t) {
        double sum = 0;
        stream_frame(s, m, r->x + t * CHANNELS, logits);
        for (k = 0; k < SPEAKERS; ++k) sum += exp((double)(logits[k] - logits[best_of(logits)]));
        for (k = 0; k < SPEAKERS; ++k)
            picture[k][t] = shade[(int)(9.99 * exp((double)(logits[k] - logits[best_of(logits)])) / sum)];
    }
    printf("\n  speaker %d, %lu frames, answer %d\n", r->speaker + 1, (unsigned long)r->frames, best_of(logits) + 1);
    for (k = 0; k < SPEAKERS; ++k)
        if (strspn(picture[k], " ") < r->frames) printf("    %d |%s|\n", k + 1, picture[k]);
}

/* Streams every test recording and compares with the whole-sequence result, bit by bit. */
static size_t count_stream_differences(stream *s, const model *m, const dataset *d)
{
    size_t *index = test_index(d), i, t, different = 0;
    ssm_real logits[SPEAKERS];
    batch b;
    batch_open(&b, m);
    for (i = 0; i < d->test; ++i) {
        const recording *r = &d->item[index[i]];
        stream_reset(s);
        for (t = 0; t < r->frames; ++t) stream_frame(s, m, r->x + t * CHANNELS, logits);
        batch_fill(&b, m, d, index + i, 1, NULL);
        batch_forward(&b, m, 0);
        different += memcmp(logits, b.logits[0], sizeof logits) != 0;
    }
    batch_close(&b);
    free(index);
    return different;
}

/* ---- file: weights and a stream's state, little-endian on every machine -------------------- */

static void put_u32(FILE *file, uint32_t bits, uint32_t *sum)
{
    int i;
    for (i = 0; i < 4; ++i, bits >>= 8) {
        putc((int)(bits & 255u), file);
        *sum = (*sum ^ (bits & 255u)) * 16777619u; /* FNV-1a */
    }
}

static void put_reals(FILE *file, const ssm_real *p, size_t count, uint32_t *sum)
{
    for (; count; --count, ++p) {
        const float value = (float)*p;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        put_u32(file, bits, sum);
    }
}

enum {
    FILE_MAGIC = 0x314d5353,
    FILE_WORDS = 4
}; /* "SSM1", weights, state, frames */

static void save(const char *path, const model *m, const stream *s)
{
    FILE *file = fopen(path, "wb");
    uint32_t sum = 2166136261u, ignored = 0;
    if (!file) die("cannot write the model file");
    put_u32(file, FILE_MAGIC, &sum);
    put_u32(file, (uint32_t)m->table.count, &sum);
    put_u32(file, (uint32_t)s->state_count, &sum);
    put_u32(file, (uint32_t)s->frames, &sum);
    put_reals(file, m->mean, CHANNELS, &sum);
    put_reals(file, m->scale, CHANNELS, &sum);
    put_reals(file, m->params, m->table.count, &sum);
    put_reals(file, s->state, s->state_count, &sum);
    put_reals(file, s->sum, D_MODEL, &sum);
    put_u32(file, sum, &ignored);
    if (ferror(file) | fclose(file)) die("cannot write the model file");
}

static const unsigned char *take_reals(const unsigned char *p, ssm_real *to, size_t count)
{
    for (; count; --count, p += 4) *to++ = (ssm_real)get_f32(p);
    return p;
}

/* Into a model and a stream that are open. Refuses anything that save did not write for this model. */
static void load(const char *path, model *m, stream *s)
{
    const size_t reals = 2 * CHANNELS + m->table.count + s->state_count + D_MODEL;
    size_t bytes, i;
    unsigned char *file = read_file(path, &bytes);
    const unsigned char *p = file + 4 * FILE_WORDS;
    uint32_t sum = 2166136261u;
    if (bytes != 4 * (FILE_WORDS + reals + 1)) die("the model file has the wrong size");
    for (i = 0; i + 4 < bytes; ++i) sum = (sum ^ file[i]) * 16777619u;
    if (get_u32(file) != FILE_MAGIC || get_u32(file + 4) != m->table.count || get_u32(file + 8) != s->state_count ||
        get_u32(file + bytes - 4) != sum)
        die("the model file is damaged");
    s->frames = get_u32(file + 12);
    p = take_reals(p, m->mean, CHANNELS);
    p = take_reals(p, m->scale, CHANNELS);
    p = take_reals(p, m->params, m->table.count);
    p = take_reals(p, s->state, s->state_count);
    take_reals(p, s->sum, D_MODEL);
    model_bind(m);
    free(file);
}

/* Stops in the middle of a recording, saves, loads into a new model, goes on: nobody can tell. */
static int survives_reload(stream *s, const model *m, const recording *r, const char *path)
{
    ssm_real logits[SPEAKERS], again[SPEAKERS];
    model other;
    stream resumed;
    size_t t;
    stream_reset(s);
    for (t = 0; t < r->frames / 2; ++t) stream_frame(s, m, r->x + t * CHANNELS, logits);
    save(path, m, s);
    model_open(&other, SSM_FORMAT_REAL);
    stream_open(&resumed, &other);
    load(path, &other, &resumed);
    for (; t < r->frames; ++t) {
        stream_frame(s, m, r->x + t * CHANNELS, logits);
        stream_frame(&resumed, &other, r->x + t * CHANNELS, again);
    }
    stream_close(&resumed);
    model_close(&other);
    return memcmp(logits, again, sizeof logits) == 0;
}

/* ---- rounded weights, and tables of them for a microcontroller ------------------------------- */

static void write_words(FILE *file, const char *name, const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t at, n = 0;
    fprintf(file, "static const uint32_t model_%s[] = {", name);
    for (at = 0; at < bytes; at += 4, ++n) { /* the last word may be cut short */
        uint32_t word = 0;
        memcpy(&word, p + at, bytes - at < 4 ? bytes - at : 4);
        fprintf(file, "%s0x%08lx,", n % 10 ? " " : "\n    ", (unsigned long)word);
    }
    fprintf(file, "\n};\n");
}

/* Nine digits name a float exactly. */
static void write_reals(FILE *file, const char *name, const ssm_real *p, size_t count)
{
    size_t i;
    fprintf(file, "static const float model_%s[] = {", name);
    for (i = 0; i < count; ++i) fprintf(file, "%s%.8ef,", i % 8 ? " " : "\n    ", (double)p[i]);
    fprintf(file, "\n};\n");
}

static void write_weights(FILE *file, const model *m)
{
    fprintf(file, "enum { MODEL_BLOCK_BYTES = %lu };\n", (unsigned long)m->mamba.bound.bytes);
    write_words(file, "block", m->mamba.bound.data, m->mamba.bound.bytes);
    write_words(file, "embed", m->embed_packed.data, m->embed_packed.bytes);
    write_words(file, "head", m->head_packed.data, m->head_packed.bytes);
    write_reals(file, "embed_bias", m->embed.bias, D_MODEL);
    write_reals(file, "head_bias", m->head.bias, SPEAKERS);
    write_reals(file, "norm", m->norm.weight, D_MODEL);
    write_reals(file, "mean", m->mean, CHANNELS);
    write_reals(file, "scale", m->scale, CHANNELS);
}

/* FNV-1a over the bits of the logits. */
static uint32_t hash_logits(uint32_t hash, const ssm_real *logits)
{
    size_t k;
    int i;
    for (k = 0; k < SPEAKERS; ++k) {
        const float value = (float)logits[k];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        for (i = 0; i < 4; ++i, bits >>= 8) hash = (hash ^ (bits & 255u)) * 16777619u;
    }
    return hash;
}

/* The first test recording of every speaker, and what this machine makes of it. */
static void write_recordings(FILE *file, const model *m, const dataset *d)
{
    ssm_real logits[SPEAKERS];
    size_t i, t;
    int speaker;
    stream s;
    stream_open(&s, m);
    fprintf(file, "typedef struct recording {\n    int speaker;\n    int answer;\n    size_t frames;\n"
                  "    uint32_t hash; /* of the bits of all logits */\n    const float *x;\n} recording;\n");
    for (speaker = 0; speaker < SPEAKERS; ++speaker) {
        char name[16];
        for (i = d->train; d->item[i].speaker != speaker; ++i) {
        }
        sprintf(name, "frames_%d", speaker);
        write_reals(file, name, d->item[i].x, d->item[i].frames * CHANNELS);
    }
    fprintf(file, "static const recording model_recording[] = {\n");
    for (speaker = 0; speaker < SPEAKERS; ++speaker) {
        uint32_t hash = 2166136261u;
        for (i = d->train; d->item[i].speaker != speaker; ++i) {
        }
        stream_reset(&s);
        for (t = 0; t < d->item[i].frames; ++t) {
            stream_frame(&s, m, d->item[i].x + t * CHANNELS, logits);
            hash = hash_logits(hash, logits);
        }
        fprintf(file, "    {%d, %d, %lu, 0x%08lx, model_frames_%d},\n", speaker, best_of(logits),
                (unsigned long)d->item[i].frames, (unsigned long)hash, speaker);
    }
    fprintf(file, "};\n");
    stream_close(&s);
}

static void write_firmware(const char *folder, const char *name, const char *format, const model *m, const dataset *d)
{
    char path[1024];
    ssm_seqs one = {0};
    ssm_sizes need;
    FILE *file;
    if (strlen(folder) > 1000) die("the name of the folder is too long");
    sprintf(path, "%s/%s/model.h", folder, name);
    file = fopen(path, "w");
    if (!file) die("cannot write the firmware's model: is there a folder for each format?");
    one.batch = one.len = 1;
    must(ssm_mamba_sizes(&m->config, &one, &need));
    fprintf(file, "/* Made by examples/speaker.c, with SSM_ALIGN %d. */\n", SSM_ALIGN);
    fprintf(file, "#define MODEL_NAME \"%s\"\n#define MODEL_FORMAT %s\n", name, format);
    fprintf(file, "enum {\n    MODEL_CHANNELS = %d,\n    MODEL_WIDTH = %d,\n    MODEL_SPEAKERS = %d,\n", CHANNELS,
            D_MODEL, SPEAKERS);
    fprintf(file, "    MODEL_STATE = %lu, /* reals */\n    MODEL_WORK = %lu, /* bytes */\n    MODEL_BYTES = %lu\n};\n",
            (unsigned long)(need.state / sizeof(ssm_real)), (unsigned long)need.work_step,
            (unsigned long)model_bytes(m));
    write_weights(file, m);
    write_recordings(file, m, d);
    if (ferror(file) | fclose(file)) die("cannot write the firmware's model");
}

/* Accuracy and bytes in each format; 1 if rounding costs more than one recording. */
static int round_weights(const model *m, const dataset *d, const char *folder)
{
    static const struct {
        ssm_format format;
        const char *name, *constant;
    } formats[] = {{SSM_FORMAT_REAL, "real", "SSM_FORMAT_REAL"},
                   {SSM_FORMAT_BF16, "bf16", "SSM_FORMAT_BF16"},
                   {SSM_FORMAT_INT8, "int8", "SSM_FORMAT_INT8"}};
    const double exact = test(m, d, NULL), recordings = (double)d->test;
    int worse = 0;
    size_t i;
    printf("\nmatrices in     recognised      accuracy       bytes\n");
    for (i = 0; i < sizeof formats / sizeof formats[0]; ++i) {
        model rounded;
        double right;
        model_round(&rounded, m, formats[i].format);
        right = test(&rounded, d, NULL);
        printf("  %-4s        %5.0f of %-5.0f    %6.2f %%     %7lu\n", formats[i].name, right * recordings, recordings,
               100 * right, (unsigned long)model_bytes(&rounded));
        worse |= (exact - right) * recordings > 1.5;
        if (folder) write_firmware(folder, formats[i].name, formats[i].constant, &rounded, d);
        model_close(&rounded);
    }
    return worse;
}

/* ---- the program ---------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* Trains from seeds 1..count; prints every accuracy and the median. */
static void run_seeds(const dataset *d, size_t count)
{
    double *result = (double *)get_memory(count * sizeof *result);
    size_t i;
    for (i = 0; i < count; ++i) {
        model m;
        model_open(&m, SSM_FORMAT_REAL);
        train(&m, d, i + 1, 0);
        result[i] = 100 * test(&m, d, NULL);
        printf("  seed %2lu  test accuracy %.2f %%\n", (unsigned long)(i + 1), result[i]);
        fflush(stdout);
        model_close(&m);
    }
    qsort(result, count, sizeof *result, compare);
    printf("  lowest %.2f %%, median %.2f %%, highest %.2f %%\n", result[0],
           (result[(count - 1) / 2] + result[count / 2]) / 2, result[count - 1]);
    free(result);
}

static int run_once(const dataset *d, const char *model_path, const char *load_path, const char *firmware)
{
    static const size_t drawn[] = {7, 100, 222}; /* test recordings */
    int counts[SPEAKERS][SPEAKERS] = {{0}}, same, worse;
    double right;
    size_t different, i;
    stream s;
    model m;
    model_open(&m, SSM_FORMAT_REAL);
    printf("Japanese Vowels: %lu recordings to learn from, %lu to be tested on\n", (unsigned long)d->train,
           (unsigned long)d->test);
    printf("model: linear %d -> %d, Mamba block, RMSNorm, mean, linear -> %d: %lu parameters\n\n", CHANNELS, D_MODEL,
           SPEAKERS, (unsigned long)m.table.count);
    stream_open(&s, &m);
    if (load_path) load(load_path, &m, &s);
    else train(&m, d, 1, 1);
    right = test(&m, d, counts);
    print_confusion(counts);
    printf("\ntest accuracy %.2f %% (published: hidden Markov model 96.2 %%, 1-NN with DTW 94.9 %%)\n", 100 * right);
    printf("\nstreaming, one frame at a time; darker is surer:\n");
    for (i = 0; i < sizeof drawn / sizeof drawn[0] && drawn[i] < d->test; ++i)
        draw_stream(&s, &m, &d->item[d->train + drawn[i]]);
    different = count_stream_differences(&s, &m, d);
    printf("\n%lu of %lu streamed recordings give the same bits as the whole sequence\n",
           (unsigned long)(d->test - different), (unsigned long)d->test);
    same = survives_reload(&s, &m, &d->item[d->train], model_path);
    printf("weights and state saved to %s in mid-recording, reloaded: %s\n", model_path,
           same ? "the same bits" : "DIFFERENT");
    worse = round_weights(&m, d, firmware);
    stream_close(&s);
    model_close(&m);
    return right > 0.965 && different == 0 && same && !worse ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *data_path = "examples/data/japanese_vowels.bin", *model_path = "build/speaker.model", *load_path = NULL,
               *firmware = NULL;
    size_t seeds = 0;
    dataset d;
    int i, failed = 0;
    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seeds")) seeds = (size_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--data")) data_path = argv[i + 1];
        else if (!strcmp(argv[i], "--model")) model_path = argv[i + 1];
        else if (!strcmp(argv[i], "--firmware")) firmware = argv[i + 1];
        else if (!strcmp(argv[i], "--load")) load_path = argv[i + 1];
        else break;
    }
    if (i < argc) die("usage: speaker [--seeds N] [--data FILE] [--model FILE] [--firmware FOLDER] [--load FILE]");
    d = load_data(data_path);
    if (seeds) run_seeds(&d, seeds);
    else failed = run_once(&d, model_path, load_path, firmware);
    free(d.item);
    free(d.samples);
    return failed;
}
