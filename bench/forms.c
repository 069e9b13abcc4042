/* forms.c - S4D and S4 as a recurrence and as a convolution, over length and number of sequences.
 *
 * One thread, no carried state, nanoseconds per element (step x channel); the smallest of several
 * runs. Both forms are compared before they are timed. */
#define SSM_IMPLEMENTATION
#define SSM_NO_OPENMP
#include "../ssm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CHANNELS = 64 };

static void must(ssm_status status)
{
    if (status == SSM_OK) return;
    fprintf(stderr, "forms: %s\n", ssm_status_string(status));
    exit(2);
}

static void *get(size_t bytes)
{
    void *p = calloc(bytes + 1, 1);
    if (!p) exit(2);
    return p;
}

/* Either layer behind one face. */
typedef struct any_layer {
    int low_rank; /* S4, else S4D */
    ssm_s4d_config d_config;
    ssm_s4_config s_config;
    ssm_s4d d;
    ssm_s4 s;
    ssm_real *params;
    void *bound;
    void *work;
    ssm_sizes need;
} any_layer;

static void layer_open(any_layer *l, int low_rank, size_t d_state, ssm_s4_form form, const ssm_seqs *seqs)
{
    static const any_layer none;
    *l = none;
    l->low_rank = low_rank;
    l->d_config.d_model = l->s_config.d_model = CHANNELS;
    l->d_config.d_state = l->s_config.d_state = d_state;
    l->d_config.form = l->s_config.form = form;
    must(low_rank ? ssm_s4_sizes(&l->s_config, seqs, &l->need) : ssm_s4d_sizes(&l->d_config, seqs, &l->need));
    l->params = (ssm_real *)get(l->need.params);
    l->bound = get(l->need.bound);
    l->work = get(l->need.work + l->need.state);
    if (low_rank) {
        must(ssm_s4_init(&l->s_config, l->params, 1));
        must(ssm_s4_bind(&l->s, &l->s_config, l->params, ssm_memory_of(l->bound, l->need.bound)));
    } else {
        must(ssm_s4d_init(&l->d_config, l->params, 1));
        must(ssm_s4d_bind(&l->d, &l->d_config, l->params, ssm_memory_of(l->bound, l->need.bound)));
    }
}

static void layer_forward(any_layer *l, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs)
{
    const size_t bytes = l->need.work + l->need.state;
    must(l->low_rank ? ssm_s4_forward(&l->s, NULL, x, y, seqs, ssm_memory_of(l->work, bytes))
                     : ssm_s4d_forward(&l->d, NULL, x, y, seqs, ssm_memory_of(l->work, bytes)));
}

static void layer_close(any_layer *l)
{
    free(l->params);
    free(l->bound);
    free(l->work);
}

/* Seconds of one forward: the smallest of five. */
static double best_time(any_layer *l, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs)
{
    double best = 1e9;
    int i;
    for (i = 0; i < 5; ++i) {
        const clock_t begin = clock();
        double seconds;
        layer_forward(l, x, y, seqs);
        seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (seconds < best) best = seconds;
    }
    return best;
}

static void compare(int low_rank, size_t d_state, size_t batch, size_t len)
{
    const size_t count = batch * len * CHANNELS;
    ssm_real *x = (ssm_real *)get(count * sizeof *x), *y = (ssm_real *)get(count * sizeof *y);
    ssm_real *z = (ssm_real *)get(count * sizeof *z);
    ssm_seqs seqs = {0};
    ssm_rng rng = {7};
    any_layer recurrence, convolution;
    double largest = 0, difference = 0, a, b;
    size_t i;
    seqs.batch = batch;
    seqs.len = len;
    for (i = 0; i < count; ++i) x[i] = ssm_rng_normal(&rng);
    layer_open(&recurrence, low_rank, d_state, SSM_S4_FORM_RECURRENT, &seqs);
    layer_open(&convolution, low_rank, d_state, SSM_S4_FORM_CONVOLUTION, &seqs);
    a = best_time(&recurrence, x, y, &seqs);
    b = best_time(&convolution, x, z, &seqs);
    for (i = 0; i < count; ++i) {
        if (fabs((double)y[i]) > largest) largest = fabs((double)y[i]);
        if (fabs((double)(y[i] - z[i])) > difference) difference = fabs((double)(y[i] - z[i]));
    }
    if (!(difference <= 1e-4 * largest)) {
        printf("the forms differ: %g of %g\n", difference, largest);
        exit(1);
    }
    printf("%5s %5lu %6lu %7lu %11.1f %12.1f   %s\n", low_rank ? "S4" : "S4D", (unsigned long)d_state,
           (unsigned long)batch, (unsigned long)len, 1e9 * a / (double)count, 1e9 * b / (double)count,
           a < b ? "recurrence" : "convolution");
    fflush(stdout);
    layer_close(&recurrence);
    layer_close(&convolution);
    free(x);
    free(y);
    free(z);
}

int main(void)
{
    static const size_t states[] = {16, 64}, batches[] = {1, 8, 32}, lens[] = {64, 512, 4096};
    size_t kind, n, b, l;
    printf("%5s %5s %6s %7s %11s %12s   %s\n", "layer", "N", "batch", "length", "recurrence", "convolution", "faster");
    for (kind = 0; kind < 2; ++kind)
        for (n = 0; n < 2; ++n)
            for (b = 0; b < 3; ++b)
                for (l = 0; l < 3; ++l)
                    if (batches[b] * lens[l] <= 32768) compare((int)kind, states[n], batches[b], lens[l]);
    return 0;
}
