/* forecast.c - when do the sunspots come back? An S4D layer trained in plain C, then streamed.
 *
 *   forecast [--seeds N] [--data FILE]
 *
 * The data are 3126 monthly sunspot numbers from January 1749 (examples/data/README.md). Seen up to
 * some month, how many will there be 1, 6, 12 and 24 months later? With s = (sqrt(x) - mean) / deviation:
 *
 *   s (1) -> linear 16 -> S4D with GELU -> linear 4, + s          a forecast for each horizon
 *
 * It is trained on 1749 to 1959 and tested on forecasts of every month since January 1960. A training
 * step runs over the whole series of 2532 months at once; after that the layer reads one month at a
 * time and each step costs the same. The state holds the past: nobody tells the layer how long to
 * look back, nor that the sun has a cycle of 11 years.
 *
 * Two forecasts that cost nothing stand beside it (tomorrow as today; as 11 years before), and one that
 * knows how far to look: a ridge regression on the last 144 months for each horizon. That one is hard to
 * beat: over many seeds the layer is level with it up to 12 months ahead, and behind it at 24. --seeds N
 * trains N times. The test years steer nothing: not the weights, not when the training ends. */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MONTHS = 3126,
    TRAIN = 2532, /* to December 1959 */
    CYCLE = 132,  /* months; no training error before it, while the state is still empty */
    LAGS = 144,   /* of the regression */
    HORIZONS = 4,
    D_MODEL = 16,
    STEPS = 100,
    WARM_UP = 10,
    TABLE_ROWS = SSM_PARAMS_MAX + 4
};

static const size_t horizons[HORIZONS] = {1, 6, 12, 24};

static void die(const char *what)
{
    fprintf(stderr, "forecast: %s\n", what);
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

static double spots[MONTHS];
static ssm_real signal[MONTHS]; /* s above */
static double mean, deviation;  /* of the square roots to 1959 */

static void load(const char *path)
{
    FILE *file = fopen(path, "r");
    double value, sum = 0, square = 0;
    size_t i;
    if (!file) {
        fprintf(stderr, "forecast: cannot read %s\n", path);
        exit(1);
    }
    for (i = 0; i < MONTHS && fscanf(file, "%lf", &value) == 1 && value >= 0; ++i) spots[i] = value;
    if (i < MONTHS || fscanf(file, "%lf", &value) == 1) die("not the data file of this example");
    fclose(file);
    for (i = 0; i < TRAIN; ++i) {
        sum += sqrt(spots[i]);
        square += spots[i];
    }
    mean = sum / TRAIN;
    deviation = sqrt(square / TRAIN - mean * mean);
    for (i = 0; i < MONTHS; ++i) signal[i] = (ssm_real)((sqrt(spots[i]) - mean) / deviation);
}

static double to_spots(double s)
{
    const double root = s * deviation + mean;
    return root > 0 ? root * root : 0;
}

/* ---- scores: forecast[t][h] is what was said in month t about month t + horizons[h] --------- */

typedef double forecasts[MONTHS][HORIZONS];

typedef struct score {
    double rmse[HORIZONS];
    double mae[HORIZONS];
} score;

static score judge(forecasts f)
{
    score s;
    size_t h, t;
    for (h = 0; h < HORIZONS; ++h) {
        double square = 0, absolute = 0;
        for (t = TRAIN; t < MONTHS; ++t) {
            const double error = f[t - horizons[h]][h] - spots[t];
            square += error * error;
            absolute += fabs(error);
        }
        s.rmse[h] = sqrt(square / (MONTHS - TRAIN));
        s.mae[h] = absolute / (MONTHS - TRAIN);
    }
    return s;
}

static void print_score(const char *name, const score *s)
{
    size_t h;
    printf("  %-22s", name);
    for (h = 0; h < HORIZONS; ++h) printf("   %6.2f /%6.2f", s->rmse[h], s->mae[h]);
    printf("\n");
}

/* ---- what it is compared with --------------------------------------------------------------- */

static void persist(forecasts f)
{
    size_t h, t;
    for (t = 0; t < MONTHS; ++t)
        for (h = 0; h < HORIZONS; ++h) f[t][h] = spots[t];
}

static void repeat_cycle(forecasts f)
{
    size_t h, t;
    for (t = CYCLE; t < MONTHS; ++t)
        for (h = 0; h < HORIZONS; ++h) f[t][h] = spots[t + horizons[h] - CYCLE];
}

/* Solves A w = w for a symmetric positive A, which it destroys (Cholesky). */
static void solve(double (*A)[LAGS + 1], double *w)
{
    size_t i, j, k;
    for (i = 0; i <= LAGS; ++i) {
        for (j = 0; j <= i; ++j) {
            for (k = 0; k < j; ++k) A[i][j] -= A[i][k] * A[j][k];
            A[i][j] = i == j ? sqrt(A[i][i]) : A[i][j] / A[j][j];
        }
        for (k = 0; k < i; ++k) w[i] -= A[i][k] * w[k];
        w[i] /= A[i][i];
    }
    for (i = LAGS + 1; i-- > 0;) {
        for (k = i + 1; k <= LAGS; ++k) w[i] -= A[k][i] * w[k];
        w[i] /= A[i][i];
    }
}

/* Ridge regression of s[t + h] on s[t], s[t - 1] .. s[t - 143] and a constant. */
static void regress(forecasts f, double ridge)
{
    static double A[LAGS + 1][LAGS + 1], w[LAGS + 1];
    size_t h, t, i, j;
    for (h = 0; h < HORIZONS; ++h) {
        memset(A, 0, sizeof A);
        memset(w, 0, sizeof w);
        for (i = 0; i < LAGS; ++i) A[i][i] = ridge;
        for (t = LAGS - 1; t + horizons[h] < TRAIN; ++t) {
            for (i = 0; i <= LAGS; ++i) {
                const double x = i < LAGS ? (double)signal[t - i] : 1;
                for (j = 0; j <= i; ++j) A[i][j] += x * (j < LAGS ? (double)signal[t - j] : 1);
                w[i] += x * (double)signal[t + horizons[h]];
            }
        }
        solve(A, w);
        for (t = LAGS - 1; t < MONTHS; ++t) {
            double s = w[LAGS];
            for (i = 0; i < LAGS; ++i) s += w[i] * (double)signal[t - i];
            f[t][h] = to_spots(s);
        }
    }
}

/* ---- model ----------------------------------------------------------------------------- */

typedef struct model {
    ssm_s4d_config config;
    ssm_param rows[TABLE_ROWS], fast_rows[TABLE_ROWS], slow_rows[TABLE_ROWS];
    ssm_params table; /* everything */
    ssm_params fast;  /* the same arrays, but only these rows: each group has a learning rate */
    ssm_params slow;
    size_t block; /* where S4D begins in the flat array */
    ssm_real *params;
    ssm_s4d s4d; /* bound to params; embed and head read them where they lie */
    ssm_linear embed;
    ssm_linear head;
    ssm_memory bound;
    ssm_seqs seqs;                   /* one sequence, up to all MONTHS */
    ssm_sizes need;                  /* for it */
    ssm_real u[MONTHS][D_MODEL];     /* embedded */
    ssm_real y[MONTHS][D_MODEL];     /* after S4D */
    ssm_real out[MONTHS][HORIZONS];  /* after the head */
    ssm_real dout[MONTHS][HORIZONS];
    ssm_real target[TRAIN][HORIZONS];
    ssm_real counts[TRAIN][HORIZONS]; /* 1 where a forecast is judged */
    ssm_mse loss;
    ssm_real du[MONTHS][D_MODEL];
    ssm_real dy[MONTHS][D_MODEL];
    ssm_memory tape;
    ssm_memory work;
} model;

static int is_one_of(const char *name, const char *a, const char *b, const char *c)
{
    return !strcmp(name, a) || !strcmp(name, b) || !strcmp(name, c);
}

/* The time scales learn slowly, as the authors of S4 do it. Both groups keep the count of the whole
 * table: offsets, moments and the norm for clipping are those of the whole model. */
static void split_table(model *m)
{
    size_t i;
    m->fast = m->slow = m->table;
    m->fast.row = m->fast_rows;
    m->slow.row = m->slow_rows;
    m->fast.rows = m->slow.rows = 0;
    for (i = 0; i < m->table.rows; ++i) {
        const char *name = m->rows[i].name;
        m->rows[i].no_decay = !is_one_of(name, "C", "weight", "weight");
        if (is_one_of(name, "log_dt", "log_A_real", "A_imag")) m->slow_rows[m->slow.rows++] = m->rows[i];
        else m->fast_rows[m->fast.rows++] = m->rows[i];
    }
    if (m->slow.rows != 3) die("S4D has other parameters than expected");
}

/* Smooth L1: quadratic up to an error of 0.5, linear beyond. Forecasts count once the first cycle is over, and as long as
 * their month is one of the training. */
static void loss_open(model *m)
{
    size_t h, t;
    for (h = 0; h < HORIZONS; ++h) {
        for (t = CYCLE; t + horizons[h] < TRAIN; ++t) {
            m->target[t][h] = signal[t + horizons[h]];
            m->counts[t][h] = 1;
        }
    }
    m->loss.rows = TRAIN;
    m->loss.dim = HORIZONS;
    m->loss.x = ssm_rows_of(m->out[0], HORIZONS);
    m->loss.target = ssm_rows_of(m->target[0], HORIZONS);
    m->loss.weight = ssm_rows_of(m->counts[0], HORIZONS);
    m->loss.beta = (ssm_real)0.5;
}

static model *model_open(void)
{
    model *m = (model *)get_memory(sizeof *m);
    m->config.d_model = D_MODEL;
    m->config.d_state = 16; /* 8 conjugate pairs for each channel */
    m->config.dt_min = (ssm_real)0.005;
    m->config.dt_max = (ssm_real)0.1;
    m->config.activation = SSM_S4_ACTIVATION_GELU;
    m->table = ssm_params_of(m->rows, TABLE_ROWS);
    must(ssm_linear_params(1, D_MODEL, 1, "embed.", &m->table));
    must(ssm_s4d_params(&m->config, "s4d.", &m->table));
    must(ssm_linear_params(D_MODEL, HORIZONS, 1, "head.", &m->table));
    must(ssm_params_layer(&m->table, "s4d.", &m->block));
    split_table(m);
    m->params = (ssm_real *)get_memory(m->table.count * sizeof(ssm_real));
    must(ssm_linear_of(&m->embed, &m->table, "embed.", m->params));
    must(ssm_linear_of(&m->head, &m->table, "head.", m->params));
    loss_open(m);
    m->seqs.batch = 1;
    m->seqs.len = MONTHS;
    must(ssm_s4d_sizes(&m->config, &m->seqs, &m->need));
    m->bound = get_block(m->need.bound);
    m->tape = get_block(m->need.tape);
    m->work = get_block((m->need.work > m->need.work_backward ? m->need.work : m->need.work_backward) + m->need.state);
    return m;
}

static void model_close(model *m)
{
    free(m->params);
    free(m->bound.data);
    free(m->tape.data);
    free(m->work.data);
    free(m);
}

/* After every change of the weights. */
static void model_bind(model *m)
{
    must(ssm_s4d_bind(&m->s4d, &m->config, m->params + m->block, m->bound));
}

/* The first `len` months as one sequence. */
static void forward(model *m, size_t len, int record)
{
    size_t h, t;
    m->seqs.len = len;
    must(ssm_linear_forward(&m->embed, ssm_rows_of(signal, 1), ssm_rows_out_of(m->u[0], D_MODEL), len));
    if (record) must(ssm_s4d_record(&m->s4d, NULL, m->u[0], m->y[0], &m->seqs, m->tape, m->work));
    else must(ssm_s4d_forward(&m->s4d, NULL, m->u[0], m->y[0], &m->seqs, m->work));
    must(ssm_linear_forward(&m->head, ssm_rows_of(m->y[0], D_MODEL), ssm_rows_out_of(m->out[0], HORIZONS), len));
    for (t = 0; t < len; ++t)
        for (h = 0; h < HORIZONS; ++h) m->out[t][h] += signal[t];
}

/* The gradients of a linear layer lie in grads as its weights in params. */
static void linear_backward(const model *m, const ssm_linear *l, ssm_rows x, ssm_rows dy, ssm_rows_out dx,
                            ssm_real *grads)
{
    must(ssm_linear_backward(l, x, dy, dx, grads + (l->weight - m->params), grads + (l->bias - m->params),
                             m->seqs.len));
}

static void backward(model *m, ssm_real *grads)
{
    memset(m->dout, 0, sizeof m->dout);
    memset(m->dy, 0, sizeof m->dy);
    memset(m->du, 0, sizeof m->du);
    must(ssm_mse_backward(&m->loss, 1, ssm_rows_out_of(m->dout[0], HORIZONS)));
    linear_backward(m, &m->head, ssm_rows_of(m->y[0], D_MODEL), ssm_rows_of(m->dout[0], HORIZONS),
                    ssm_rows_out_of(m->dy[0], D_MODEL), grads);
    must(ssm_s4d_backward(&m->s4d, NULL, m->u[0], m->dy[0], m->du[0], grads + m->block, &m->seqs, m->tape, m->work));
    linear_backward(m, &m->embed, ssm_rows_of(signal, 1), ssm_rows_of(m->du[0], D_MODEL), ssm_rows_out_of(NULL, 0),
                    grads);
}

static void train(model *m, uint64_t seed)
{
    const size_t bytes = m->table.count * sizeof(ssm_real);
    ssm_real *grads = (ssm_real *)get_memory(bytes), *moments = (ssm_real *)get_memory(2 * bytes);
    const ssm_schedule fast = {SSM_SCHEDULE_COSINE, (ssm_real)1e-2, 0, WARM_UP, STEPS};
    const ssm_schedule slow = {SSM_SCHEDULE_COSINE, (ssm_real)1e-3, 0, WARM_UP, STEPS};
    const ssm_param *weight = ssm_params_find(&m->table, "head.weight"), *bias = ssm_params_find(&m->table, "head.bias");
    ssm_adamw adamw = {0};
    size_t i, k;
    adamw.beta2 = (ssm_real)0.99;
    adamw.weight_decay = (ssm_real)0.01;
    adamw.clip_norm = 1;
    must(ssm_params_init(&m->table, m->params, seed));
    for (i = 0; i < weight->count; ++i) m->params[weight->offset + i] *= (ssm_real)0.1;
    for (i = 0; i < bias->count; ++i) m->params[bias->offset + i] = 0; /* starts near "as today" */
    model_bind(m);
    for (k = 1; k <= STEPS; ++k) {
        forward(m, TRAIN, 1);
        memset(grads, 0, bytes);
        backward(m, grads);
        adamw.lr = ssm_schedule_rate(&fast, k);
        must(ssm_adamw_step(&adamw, &m->fast, m->params, grads, moments, k, NULL));
        adamw.lr = ssm_schedule_rate(&slow, k);
        must(ssm_adamw_step(&adamw, &m->slow, m->params, grads, moments, k, NULL));
        model_bind(m);
    }
    free(grads);
    free(moments);
}

/* From January 1749 to the end, one month at a time. Returns in how many months the layer says
 * something else than over the whole sequence. */
static size_t stream(model *m, forecasts f)
{
    ssm_real *state = (ssm_real *)get_memory(m->need.state), u[D_MODEL], out[HORIZONS];
    size_t t, h, different = 0;
    forward(m, MONTHS, 0);
    for (t = 0; t < MONTHS; ++t) {
        must(ssm_linear_forward(&m->embed, ssm_rows_of(&signal[t], 0), ssm_rows_out_of(u, 0), 1));
        must(ssm_s4d_step(&m->s4d, state, u, u, 1, m->work));
        must(ssm_linear_forward(&m->head, ssm_rows_of(u, 0), ssm_rows_out_of(out, 0), 1));
        for (h = 0; h < HORIZONS; ++h) {
            out[h] += signal[t];
            f[t][h] = to_spots((double)out[h]);
        }
        different += memcmp(out, m->out[t], sizeof out) != 0;
    }
    free(state);
    return different;
}

/* ---- the program ---------------------------------------------------------------------------- */

/* The test years, a column for 8 months. */
static void draw(forecasts f)
{
    enum { EVERY = 8, COLUMNS = (MONTHS - TRAIN) / EVERY, ROWS = 10, UNIT = 20 };
    int row;
    size_t i, k;
    printf("\nThe sun (bars) and what the last of these models said 12 months before (o):\n\n");
    for (row = ROWS; row >= 0; --row) {
        char line[COLUMNS + 1];
        for (i = 0; i < COLUMNS; ++i) {
            double sun = 0, said = 0;
            for (k = TRAIN + i * EVERY; k < TRAIN + (i + 1) * EVERY; ++k) {
                sun += spots[k] / EVERY;
                said += f[k - horizons[2]][2] / EVERY;
            }
            line[i] = (int)(said / UNIT + 0.5) == row ? 'o' : (int)(sun / UNIT + 0.5) >= row ? ':' : ' ';
        }
        line[COLUMNS] = 0;
        printf("  %4d |%s\n", row * UNIT, line);
    }
    printf("        1960%*s\n\n", COLUMNS - 4, "2009");
}

int main(int argc, char **argv)
{
    static forecasts f;
    static const double bound[HORIZONS] = {0.96, 0.85, 0.75, 0.65}; /* of the error of "as today" */
    const char *data_path = "examples/data/sunspots.txt";
    size_t seeds = 5, seed, h, different = 0;
    score today, all = {{0}, {0}}, s;
    int i, good = 1;
    model *m;
    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seeds")) seeds = (size_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--data")) data_path = argv[i + 1];
        else break;
    }
    if (i < argc || seeds == 0) die("usage: forecast [--seeds N] [--data FILE]");
    load(data_path);
    m = model_open();
    printf("Sunspots, learnt to 1959 and forecast from 1960 to June 2009 by S4D, %lu parameters.\n",
           (unsigned long)m->table.count);
    printf("Root mean square / mean absolute error, in sunspots, so many months ahead:\n\n%24s", "");
    for (h = 0; h < HORIZONS; ++h) printf("%16lu", (unsigned long)horizons[h]);
    printf("\n");
    persist(f);
    today = judge(f);
    print_score("as today", &today);
    repeat_cycle(f);
    s = judge(f);
    print_score("as 132 months before", &s);
    regress(f, 10);
    s = judge(f);
    print_score("regression, 144 months", &s);
    for (seed = 1; seed <= seeds; ++seed) {
        char name[64];
        train(m, seed);
        different += stream(m, f);
        s = judge(f);
        sprintf(name, "S4D, seed %lu (%.1f s)", (unsigned long)seed, (double)clock() / CLOCKS_PER_SEC);
        print_score(name, &s);
        fflush(stdout);
        for (h = 0; h < HORIZONS; ++h) {
            all.rmse[h] += s.rmse[h] / (double)seeds;
            all.mae[h] += s.mae[h] / (double)seeds;
        }
    }
    print_score("S4D, mean", &all);
    printf("\nThe regression is told how far to look back, 12 years. The layer has to find that out by itself:\n"
           "over many seeds it is level with the regression up to a year ahead, and behind it at two.\n");
    draw(f);
    printf("%lu of %lu forecasts made month by month are the same bits as over the whole sequence\n",
           (unsigned long)(seeds * MONTHS - different), (unsigned long)(seeds * MONTHS));
    model_close(m);
    for (h = 0; h < HORIZONS; ++h) good &= all.rmse[h] < bound[h] * today.rmse[h];
    return good && different == 0 ? 0 : 1;
}
