/* irregular.c - train on every frame, listen to some of them: S5 and uneven sampling in plain C.
 *
 *   irregular [--seeds N] [--data FILE]
 *
 * A state space model is an equation in continuous time; the step size between two samples is a
 * number it can be told. The data are 640 recordings of nine men saying two Japanese vowels, 12 LPC
 * cepstrum coefficients per frame, 7 to 29 frames each (examples/data/README.md). The model:
 *
 *   x (12) -> standardise -> linear 32 -> S5 with GELU -> mean over time -> linear 9
 *
 * It is trained on every frame of the training recordings, and only so. Then, without another step
 * of training, it hears a part of the frames of the test recordings: a random half, every second,
 * every third. Once it is told by ssm_seqs.step_scale how many frames lie between those it hears,
 * once it is not and takes every step for one frame.
 *
 * The test recordings steer nothing: not the weights, not when the training ends. --seeds N trains
 * N times and prints the means. */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

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
    EPOCHS = 30,
    WARM_UP = 20, /* steps */
    TABLE_ROWS = SSM_PARAMS_MAX + 4
};

typedef enum listening { ALL_FRAMES, RANDOM_HALF, EVERY_SECOND, EVERY_THIRD, WAYS } listening;

static const char *const way_names[WAYS] = {"every frame", "a random half", "every second", "every third"};

static void die(const char *what)
{
    fprintf(stderr, "irregular: %s\n", what);
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

enum { TRAIN = 270, TEST = 370, FRAMES = 4274 + 5687, FILE_BYTES = 32 + 4 * (TRAIN + TEST) + 4 * CHANNELS * FRAMES };

typedef struct recording {
    int speaker;
    size_t frames;
    const ssm_real *x; /* [frames][CHANNELS], standardised by the training recordings */
} recording;

static recording recordings[TRAIN + TEST]; /* training recordings first */
static ssm_real samples[FRAMES][CHANNELS];

static unsigned long get_u32(const unsigned char *p)
{
    return p[0] | (unsigned long)p[1] << 8 | (unsigned long)p[2] << 16 | (unsigned long)p[3] << 24;
}

static void standardise(size_t train_frames)
{
    size_t k, t;
    for (k = 0; k < CHANNELS; ++k) {
        double sum = 0, square = 0, mean, deviation;
        for (t = 0; t < train_frames; ++t) {
            sum += (double)samples[t][k];
            square += (double)samples[t][k] * (double)samples[t][k];
        }
        mean = sum / (double)train_frames;
        deviation = sqrt(square / (double)train_frames - mean * mean);
        for (t = 0; t < FRAMES; ++t) samples[t][k] = (ssm_real)(((double)samples[t][k] - mean) / deviation);
    }
}

static void load_data(const char *path)
{
    static unsigned char data[FILE_BYTES + 1];
    FILE *file = fopen(path, "rb");
    const unsigned char *p = data + 32;
    size_t bytes, i, k, at = 0, train_frames = 0;
    if (!file) {
        fprintf(stderr, "irregular: cannot read %s\n", path);
        exit(1);
    }
    bytes = fread(data, 1, sizeof data, file);
    fclose(file);
    if (bytes != FILE_BYTES || memcmp(data, "JVOW", 4) || get_u32(data + 16) != TRAIN || get_u32(data + 20) != TEST)
        die("not the data file of this example");
    for (i = 0; i < TRAIN + TEST; ++i, p += 4) {
        recordings[i].speaker = p[0] | p[1] << 8;
        recordings[i].frames = (size_t)(p[2] | p[3] << 8);
        recordings[i].x = samples[at];
        at += recordings[i].frames;
        if (i + 1 == TRAIN) train_frames = at;
        if (recordings[i].speaker >= SPEAKERS || recordings[i].frames == 0 || recordings[i].frames > MAX_FRAMES ||
            at > FRAMES)
            die("the data file is damaged");
    }
    for (at = 0; at < FRAMES; ++at) {
        for (k = 0; k < CHANNELS; ++k, p += 4) {
            const uint32_t bits = (uint32_t)get_u32(p);
            float value;
            memcpy(&value, &bits, sizeof value);
            samples[at][k] = value;
        }
    }
    standardise(train_frames);
}

/* Which frames of a recording are heard: heard[i] is the i-th of them. Returns how many. */
static size_t listen(listening way, size_t frames, ssm_rng *rng, size_t *heard)
{
    const size_t every = way == EVERY_SECOND ? 2 : way == EVERY_THIRD ? 3 : 1, half = (frames + 1) / 2;
    size_t t, count = 0;
    for (t = 0; t < frames; t += every) /* the random half: each choice of frames is as likely */
        if (way != RANDOM_HALF || ssm_rng_uniform(rng) * (ssm_real)(frames - t) < (ssm_real)(half - count))
            heard[count++] = t;
    return count;
}

/* ---- model ----------------------------------------------------------------------------- */

typedef struct model {
    ssm_s5_config config;
    ssm_param rows[TABLE_ROWS], fast_rows[TABLE_ROWS], slow_rows[TABLE_ROWS];
    ssm_params table; /* everything */
    ssm_params fast;  /* the same arrays, but only these rows: each group has a learning rate */
    ssm_params slow;
    size_t block; /* where S5 begins in the flat array */
    ssm_real *params;
    ssm_s5 s5; /* bound to params; embed and head read them where they lie */
    ssm_linear embed;
    ssm_linear head;
    ssm_memory bound;
} model;

/* Lambda and the step sizes learn slowly, as the authors of S5 do it. Both groups keep the count of
 * the whole table: offsets, moments and the norm for clipping are those of the whole model. */
static void split_table(model *m)
{
    size_t i;
    m->fast = m->slow = m->table;
    m->fast.row = m->fast_rows;
    m->slow.row = m->slow_rows;
    m->fast.rows = m->slow.rows = 0;
    for (i = 0; i < m->table.rows; ++i) {
        const char *name = m->rows[i].name;
        if (!strcmp(name, "Lambda_re") || !strcmp(name, "Lambda_im") || !strcmp(name, "log_step")) {
            m->slow_rows[m->slow.rows] = m->rows[i];
            m->slow_rows[m->slow.rows++].no_decay = 1;
        } else {
            m->fast_rows[m->fast.rows++] = m->rows[i];
        }
    }
    if (m->slow.rows != 3) die("S5 has other parameters than expected");
}

static void model_open(model *m)
{
    ssm_seqs one = {0};
    ssm_sizes need;
    memset(m, 0, sizeof *m);
    m->config.d_model = D_MODEL;
    m->config.d_state = 32; /* 16 conjugate pairs */
    m->config.activation = SSM_S5_GELU;
    m->config.dt_min = (ssm_real)0.01; /* a frame */
    m->config.dt_max = (ssm_real)0.3;
    m->table = ssm_params_of(m->rows, TABLE_ROWS);
    must(ssm_linear_params(CHANNELS, D_MODEL, 1, "embed.", &m->table));
    must(ssm_s5_params(&m->config, "s5.", &m->table));
    must(ssm_linear_params(D_MODEL, SPEAKERS, 1, "head.", &m->table));
    must(ssm_params_layer(&m->table, "s5.", &m->block));
    split_table(m);
    m->params = (ssm_real *)get_memory(m->table.count * sizeof(ssm_real));
    must(ssm_linear_of(&m->embed, &m->table, "embed.", m->params));
    must(ssm_linear_of(&m->head, &m->table, "head.", m->params));
    one.batch = one.len = 1;
    must(ssm_s5_sizes(&m->config, &one, &need));
    m->bound = get_block(need.bound);
}

static void model_close(model *m)
{
    free(m->params);
    free(m->bound.data);
}

/* After every change of the weights. */
static void model_bind(model *m)
{
    must(ssm_s5_bind(&m->s5, &m->config, m->params + m->block, m->bound));
}

/* ---- whole sequences ---------------------------------------------------------------------- */

/* A batch of recordings packed end to end, and every intermediate the gradient needs. */
typedef struct batch {
    size_t start[BATCH + 1];
    int speaker[BATCH];
    ssm_seqs seqs;
    ssm_mean over_time;
    ssm_cross_entropy loss;
    ssm_real step[BATCH * MAX_FRAMES]; /* frames since the last one heard */
    ssm_real x[BATCH * MAX_FRAMES][CHANNELS];
    ssm_real h[BATCH * MAX_FRAMES][D_MODEL]; /* embedded */
    ssm_real y[BATCH * MAX_FRAMES][D_MODEL]; /* after S5 */
    ssm_real dh[BATCH * MAX_FRAMES][D_MODEL];
    ssm_real dy[BATCH * MAX_FRAMES][D_MODEL];
    ssm_real mean[BATCH][D_MODEL];
    ssm_real logits[BATCH][SPEAKERS];
    ssm_real dlogits[BATCH][SPEAKERS];
    ssm_sizes need; /* for a full batch of the longest recordings */
    ssm_memory tape;
    ssm_memory work;
} batch;

static batch *batch_open(const model *m)
{
    batch *b = (batch *)get_memory(sizeof *b);
    size_t i;
    for (i = 0; i <= BATCH; ++i) b->start[i] = i * MAX_FRAMES;
    b->seqs.batch = BATCH;
    b->seqs.len = BATCH * MAX_FRAMES;
    b->seqs.start = b->start;
    b->seqs.step_scale = b->step;
    b->over_time.dim = D_MODEL;
    b->over_time.start = b->start;
    b->loss.dim = SPEAKERS;
    b->loss.x = ssm_rows_of(b->logits[0], SPEAKERS);
    b->loss.label = b->speaker;
    must(ssm_s5_sizes(&m->config, &b->seqs, &b->need));
    b->work = get_block((b->need.work > b->need.work_backward ? b->need.work : b->need.work_backward) + b->need.state);
    b->tape = get_block(b->need.tape);
    return b;
}

static void batch_close(batch *b)
{
    free(b->work.data);
    free(b->tape.data);
    free(b);
}

static void batch_fill(batch *b, const size_t *index, size_t count, listening way, int told, ssm_rng *rng)
{
    size_t heard[MAX_FRAMES], i, j, n = 0;
    for (i = 0; i < count; ++i) {
        const recording *r = &recordings[index[i]];
        const size_t frames = listen(way, r->frames, rng, heard);
        b->speaker[i] = r->speaker;
        b->start[i] = n;
        for (j = 0; j < frames; ++j, ++n) {
            memcpy(b->x[n], r->x + heard[j] * CHANNELS, sizeof b->x[n]);
            b->step[n] = (ssm_real)(j ? heard[j] - heard[j - 1] : heard[j] + 1);
        }
    }
    b->start[count] = n;
    b->seqs.batch = b->over_time.batch = b->loss.rows = count;
    b->seqs.len = b->over_time.len = n;
    b->seqs.step_scale = told ? b->step : NULL;
}

static void batch_forward(batch *b, const model *m, int record)
{
    must(ssm_linear_forward(&m->embed, ssm_rows_of(b->x[0], CHANNELS), ssm_rows_out_of(b->h[0], D_MODEL), b->seqs.len));
    if (record) must(ssm_s5_record(&m->s5, NULL, b->h[0], b->y[0], &b->seqs, b->tape, b->work));
    else must(ssm_s5_forward(&m->s5, NULL, b->h[0], b->y[0], &b->seqs, b->work));
    must(ssm_mean_forward(&b->over_time, ssm_rows_of(b->y[0], D_MODEL), ssm_rows_out_of(b->mean[0], D_MODEL)));
    must(ssm_linear_forward(&m->head, ssm_rows_of(b->mean[0], D_MODEL), ssm_rows_out_of(b->logits[0], SPEAKERS),
                            b->seqs.batch));
}

/* The gradients of a linear layer lie in grads as its weights in params. */
static void linear_backward(const model *m, const ssm_linear *l, ssm_rows x, ssm_rows dy, ssm_rows_out dx,
                            ssm_real *grads, size_t rows)
{
    must(ssm_linear_backward(l, x, dy, dx, grads + (l->weight - m->params), grads + (l->bias - m->params), rows));
}

/* After batch_forward with record: adds the gradient of the mean cross-entropy. */
static void batch_backward(batch *b, const model *m, ssm_real *grads)
{
    ssm_real dmean[BATCH][D_MODEL] = {{0}};
    memset(b->dlogits, 0, sizeof b->dlogits);
    memset(b->dy, 0, sizeof b->dy);
    memset(b->dh, 0, sizeof b->dh);
    must(ssm_cross_entropy_backward(&b->loss, 1, ssm_rows_out_of(b->dlogits[0], SPEAKERS)));
    linear_backward(m, &m->head, ssm_rows_of(b->mean[0], D_MODEL), ssm_rows_of(b->dlogits[0], SPEAKERS),
                    ssm_rows_out_of(dmean[0], D_MODEL), grads, b->seqs.batch);
    must(ssm_mean_backward(&b->over_time, ssm_rows_of(dmean[0], D_MODEL), ssm_rows_out_of(b->dy[0], D_MODEL)));
    must(ssm_s5_backward(&m->s5, NULL, b->h[0], b->dy[0], b->dh[0], grads + m->block, &b->seqs, b->tape, b->work));
    linear_backward(m, &m->embed, ssm_rows_of(b->x[0], CHANNELS), ssm_rows_of(b->dh[0], D_MODEL),
                    ssm_rows_out_of(NULL, 0), grads, b->seqs.len);
}

/* ---- training, on every frame ------------------------------------------------------------- */

static void train(model *m, uint64_t seed)
{
    const size_t bytes = m->table.count * sizeof(ssm_real), steps = EPOCHS * ((TRAIN + BATCH - 1) / BATCH);
    const ssm_schedule fast = {SSM_SCHEDULE_COSINE, (ssm_real)4e-3, 0, WARM_UP, steps};
    const ssm_schedule slow = {SSM_SCHEDULE_COSINE, (ssm_real)1e-3, 0, WARM_UP, steps};
    ssm_real *grads = (ssm_real *)get_memory(bytes), *moments = (ssm_real *)get_memory(2 * bytes);
    size_t index[TRAIN], i, epoch, step = 0;
    ssm_adamw adamw = {0};
    ssm_rng rng;
    batch *b = batch_open(m);
    rng.state = seed;
    adamw.weight_decay = (ssm_real)0.01;
    adamw.clip_norm = 1;
    must(ssm_params_init(&m->table, m->params, seed));
    model_bind(m);
    for (i = 0; i < TRAIN; ++i) index[i] = i;
    for (epoch = 0; epoch < EPOCHS; ++epoch) {
        for (i = TRAIN; i > 1; --i) { /* shuffle */
            const size_t j = (size_t)(ssm_rng_next(&rng) % i), last = index[i - 1];
            index[i - 1] = index[j];
            index[j] = last;
        }
        for (i = 0; i < TRAIN; i += BATCH) {
            batch_fill(b, index + i, TRAIN - i < BATCH ? TRAIN - i : BATCH, ALL_FRAMES, 0, NULL);
            batch_forward(b, m, 1);
            memset(grads, 0, bytes);
            batch_backward(b, m, grads);
            ++step;
            adamw.lr = ssm_schedule_rate(&fast, step);
            must(ssm_adamw_step(&adamw, &m->fast, m->params, grads, moments, step, NULL));
            adamw.lr = ssm_schedule_rate(&slow, step);
            must(ssm_adamw_step(&adamw, &m->slow, m->params, grads, moments, step, NULL));
            model_bind(m);
        }
    }
    batch_close(b);
    free(grads);
    free(moments);
}

/* ---- testing ------------------------------------------------------------------------------ */

static int best_of(const ssm_real *logits)
{
    int best = 0, k;
    for (k = 1; k < SPEAKERS; ++k)
        if (logits[k] > logits[best]) best = k;
    return best;
}

/* Percentage of the test recordings that are given to the right speaker. */
static double accuracy(const model *m, batch *b, listening way, int told)
{
    size_t index[BATCH], at, i, right = 0;
    ssm_rng rng;
    rng.state = 1749; /* told or not, the same frames are heard */
    for (at = 0; at < TEST; at += BATCH) {
        const size_t n = TEST - at < BATCH ? TEST - at : BATCH;
        for (i = 0; i < n; ++i) index[i] = TRAIN + at + i;
        batch_fill(b, index, n, way, told, &rng);
        batch_forward(b, m, 0);
        for (i = 0; i < n; ++i) right += best_of(b->logits[i]) == b->speaker[i];
    }
    return 100.0 * (double)right / TEST;
}

/* Frame by frame, each with its own step size: forward with len = 1. Returns how many of the test
 * recordings then give other bits than as whole sequences. */
static size_t count_stream_differences(const model *m, batch *b)
{
    ssm_real *state = (ssm_real *)get_memory(b->need.state), sum[D_MODEL], h[D_MODEL], logits[SPEAKERS];
    size_t i, k, t, different = 0;
    ssm_seqs one = {0};
    ssm_rng rng;
    rng.state = 1749;
    one.batch = one.len = 1;
    for (i = TRAIN; i < TRAIN + TEST; ++i) {
        batch_fill(b, &i, 1, RANDOM_HALF, 1, &rng);
        batch_forward(b, m, 0);
        memset(state, 0, b->need.state);
        memset(sum, 0, sizeof sum);
        for (t = 0; t < b->seqs.len; ++t) {
            one.step_scale = &b->step[t];
            must(ssm_linear_forward(&m->embed, ssm_rows_of(b->x[t], 0), ssm_rows_out_of(h, 0), 1));
            must(ssm_s5_forward(&m->s5, state, h, h, &one, b->work));
            for (k = 0; k < D_MODEL; ++k) sum[k] += h[k];
        }
        for (k = 0; k < D_MODEL; ++k) sum[k] /= (ssm_real)b->seqs.len;
        must(ssm_linear_forward(&m->head, ssm_rows_of(sum, 0), ssm_rows_out_of(logits, 0), 1));
        different += memcmp(logits, b->logits[0], sizeof logits) != 0;
    }
    free(state);
    return different;
}

int main(int argc, char **argv)
{
    const char *data_path = "examples/data/japanese_vowels.bin";
    double mean[WAYS][2] = {{0}}, told, not_told;
    size_t seeds = 5, seed, different = 0;
    int i, way;
    model m;
    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seeds")) seeds = (size_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--data")) data_path = argv[i + 1];
        else break;
    }
    if (i < argc || seeds == 0) die("usage: irregular [--seeds N] [--data FILE]");
    load_data(data_path);
    model_open(&m);
    printf("Japanese Vowels: S5 learns from every frame of %d recordings, then hears %d others at other rates.\n",
           TRAIN, TEST);
    printf("Linear %d -> %d, S5 with 16 complex states, GELU, mean, linear -> %d: %lu parameters.\n\n", CHANNELS,
           D_MODEL, SPEAKERS, (unsigned long)m.table.count);
    printf("Test accuracy in %%, told the time steps / not told:\n\n        ");
    for (way = 0; way < WAYS; ++way) printf("%16s", way_names[way]);
    printf("\n");
    for (seed = 1; seed <= seeds; ++seed) {
        batch *b;
        train(&m, seed);
        b = batch_open(&m);
        printf("  seed %-2lu", (unsigned long)seed);
        for (way = 0; way < WAYS; ++way) {
            told = accuracy(&m, b, (listening)way, 1);
            not_told = accuracy(&m, b, (listening)way, 0);
            mean[way][0] += told / (double)seeds;
            mean[way][1] += not_told / (double)seeds;
            printf("     %5.1f /%5.1f", told, not_told);
        }
        printf("   %4.1f s\n", (double)clock() / CLOCKS_PER_SEC);
        fflush(stdout);
        different += count_stream_differences(&m, b);
        batch_close(b);
    }
    printf("  mean   ");
    for (way = 0; way < WAYS; ++way) printf("     %5.1f /%5.1f", mean[way][0], mean[way][1]);
    printf("\n\n%lu of %lu recordings, heard frame by frame, give the same bits as whole sequences\n",
           (unsigned long)(seeds * TEST - different), (unsigned long)(seeds * TEST));
    model_close(&m);
    told = (mean[1][0] + mean[2][0] + mean[3][0]) / 3;
    not_told = (mean[1][1] + mean[2][1] + mean[3][1]) / 3;
    return mean[0][0] > 94 && told > 93 && told > not_told + 3 && different == 0 ? 0 : 1;
}
