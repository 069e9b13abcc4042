/* layer.c - what the page index.html calls: a streaming S4D layer and a HiPPO-LegS memory.
 *
 * One command builds it; nothing is imported, not even a C library (`make web` runs it and builds the page):
 *
 *   clang --target=wasm32 -mbulk-memory -std=c99 -Os -ffp-contract=off -ffreestanding -nostdlib \
 *       -Wl,--no-entry -Wl,--strip-all -o layer.wasm examples/web/layer.c
 *
 * Sound goes in at web_input, web_run takes it one sample at a time, and comes out at web_output. The layer
 * has one channel and N/2 complex states; each is a resonator
 *
 *   s[t] = exp(delta A) s[t-1] + b u[t]        y[t] = 2 Re(C . s[t])
 *
 * so that |s|, one number for each frequency, is a picture of the sound. Every HOP samples this picture is
 * taken, and the loudness of the hop goes into the memory. All numbers that the page draws are made here,
 * without libm: they are the same bits in a browser and in a native program (tests/check_web.sh). */
#define SSM_STATIC
#define SSM_NO_LIBC
#include "../../ssm.h"

#ifdef __wasm__
#define WEB_EXPORT(name) __attribute__((export_name(#name)))
#else
#define WEB_EXPORT(name)
#endif

enum {
    BLOCK = 2048, /* samples that web_run takes at once */
    HOP = 512,    /* samples of one picture */
    LOOK = 16,    /* samples between two looks at the states, for the mean of a hop */
    STATES = 256, /* at most */
    MODES = STATES / 2,
    KERNEL = 4096, /* samples of the impulse response, a power of two */
    NUMBERS = 256, /* of the memory, at most */
    POINTS = 1024  /* of the past that is recalled, at most */
};

/* How the states start: the page's own, or the papers'. */
enum {
    KIND_RESONATORS, /* seven octaves, equally spaced, each ringing for the same number of periods */
    KIND_LIN,
    KIND_INV,
    KIND_LEGS,
    KINDS
};

/* Keeps the states of a silent layer out of the subnormal numbers, which many processors handle a hundred
 * times slower; a WebAssembly module cannot switch flush-to-zero on. 240 dB below full scale. */
#define SILENCE 1e-12f

static float input[BLOCK], output[BLOCK];
static float columns[BLOCK / HOP + 1][MODES], levels[BLOCK / HOP + 1];
static float kernel[KERNEL], response[KERNEL / 2], past[POINTS];
static float frequency[MODES], decay[MODES], scale[MODES];

static ssm_s4d layer;
static ssm_sizes need;
static float params[3 * STATES], state[STATES], spectrum[2 * KERNEL];
static char bound[4096], work[20 * 1024], twiddles[65 * 1024]; /* what sizes ask for at STATES and KERNEL fits */
static size_t modes, hop_samples;
static float hop_sum, power[MODES];

static float memory[NUMBERS];
static size_t numbers, remembered;

/* ---- elementary functions ------------------------------------------------------------------ */

/* exp2(x), |x| < 100: a power of two times the series of exp, to 2e-7. */
static float exp_2(float x)
{
    const int whole = (int)x - (x < 0);
    const float r = (x - (float)whole) * 0.69314718f;
    float sum = 1, two = 1;
    int i;
    for (i = 10; i >= 1; --i) sum = 1 + sum * r / (float)i;
    for (i = 0; i < (whole < 0 ? -whole : whole); ++i) two *= 2;
    return whole < 0 ? sum / two : sum * two;
}

/* log(x), x > 0: halved or doubled until near 1, then the series of atanh. */
static float log_e(float x)
{
    float whole = 0, z, z2, sum = 0;
    int i;
    for (; x > 1.4142135f; whole += 1) x /= 2;
    for (; x < 0.70710678f; whole -= 1) x *= 2;
    z = (x - 1) / (x + 1);
    z2 = z * z;
    for (i = 9; i >= 1; i -= 2) sum = sum * z2 + 1 / (float)i;
    return 2 * z * sum + whole * 0.69314718f;
}

/* sin(2 pi p), 0 <= p < 1, to 4e-6. */
static float sine(float p)
{
    const float q = p < 0.25f ? p : p < 0.75f ? 0.5f - p : p - 1, t = 6.2831853f * q, t2 = t * t;
    return t * (1 - t2 / 6 * (1 - t2 / 20 * (1 - t2 / 42 * (1 - t2 / 72))));
}

static float square_root(float x)
{
    float r = x > 1 ? x : 1;
    int i;
    for (i = 0; i < 60; ++i) r = 0.5f * (r + x / r);
    return r;
}

/* ---- the layer ------------------------------------------------------------------------------- */

/* Zero state: nothing heard yet. */
static void silence(void)
{
    size_t i;
    for (i = 0; i < STATES; ++i) state[i] = 0;
    for (i = 0; i < MODES; ++i) power[i] = 0;
    hop_samples = 0;
    hop_sum = 0;
}

/* kernel: the layer's answer to an impulse, of which response is the spectrum. Returns the largest entry of
 * that, as an amplitude; leaves the layer silent. */
static float measure(void)
{
    size_t t;
    float x = 1, peak = 0;
    silence();
    for (t = 0; t < KERNEL; ++t) {
        if (ssm_s4d_step(&layer, state, &x, &kernel[t], 1, ssm_memory_of(work, sizeof work)) != SSM_OK) return 0;
        x = 0;
        spectrum[2 * t] = kernel[t];
        spectrum[2 * t + 1] = 0;
    }
    silence();
    if (ssm_fft(spectrum, KERNEL, 0, ssm_memory_of(twiddles, sizeof twiddles)) != SSM_OK) return 0;
    for (t = 0; t < KERNEL / 2; ++t) {
        response[t] = spectrum[2 * t] * spectrum[2 * t] + spectrum[2 * t + 1] * spectrum[2 * t + 1];
        if (response[t] > peak) peak = response[t];
    }
    return square_root(peak);
}

static float *parameter(const ssm_params *table, const char *name)
{
    return params + ssm_params_find(table, name)->offset;
}

/* Makes the layer and silences it.
 *   kind    KIND_...            states  N, even, 4 .. STATES
 *   top     frequency of the fastest state, in cycles per sample, at time scale 1
 *   octaves log2 of the time scale: delta times 2^octaves
 *   ring    the states ring 2^ring times longer: the real part of A times 2^-ring
 * Returns ssm_status. */
WEB_EXPORT(web_layer) int web_layer(int kind, int states, float top, float octaves, float ring)
{
    static const ssm_s4_A_init init[KINDS] = {SSM_S4_INIT_LIN, SSM_S4_INIT_LIN, SSM_S4_INIT_INV, SSM_S4_INIT_LEGS};
    ssm_s4d_config config = {0};
    ssm_seqs one = {0};
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {0};
    ssm_status status;
    float *log_dt, *log_re, *im, *C, fastest = 0, delta, peak;
    size_t m, i;
    if (kind < 0 || kind >= KINDS || states < 4 || states > STATES || states % 2) return SSM_ERR_CONFIG;
    config.d_model = 1;
    config.d_state = (size_t)states;
    config.init = init[kind];
    modes = config.d_state / 2;
    one.batch = one.len = 1;
    table.row = rows;
    table.capacity = SSM_PARAMS_MAX;
    if ((status = ssm_s4d_sizes(&config, &one, &need)) != SSM_OK) return status;
    if (need.params > sizeof params || need.state > sizeof state || need.bound > sizeof bound) return SSM_ERR_MEMORY;
    if (need.work > sizeof work) return SSM_ERR_MEMORY;
    if ((status = ssm_s4d_params(&config, NULL, &table)) != SSM_OK) return status;
    if ((status = ssm_s4d_init(&config, params, 42)) != SSM_OK) return status;
    log_dt = parameter(&table, "log_dt");
    log_re = parameter(&table, "log_A_real");
    im = parameter(&table, "A_imag");
    C = parameter(&table, "C");
    *parameter(&table, "D") = 0;

    for (m = 0; m < modes; ++m) {
        if (kind == KIND_RESONATORS) { /* as wide as the distance to the next */
            im[m] = exp_2(7 * (float)m / (float)(modes - 1));
            log_re[m] = log_e(im[m] * 2.43f / (float)(modes - 1));
            C[2 * m] = m % 2 ? -exp_2(log_re[m] * 1.442695f) : exp_2(log_re[m] * 1.442695f);
            C[2 * m + 1] = 0;
        }
        log_re[m] -= ring * 0.69314718f;
        if (im[m] > fastest) fastest = im[m];
        if (-im[m] > fastest) fastest = -im[m];
    }
    *log_dt = log_e(6.2831853f * top / fastest) + octaves * 0.69314718f;
    delta = exp_2(*log_dt * 1.442695f);
    for (m = 0; m < modes; ++m) {
        const float re = exp_2(log_re[m] * 1.442695f);
        frequency[m] = (im[m] < 0 ? -im[m] : im[m]) * delta * 0.15915494f;
        decay[m] = re * delta;
        scale[m] = 2 * re;
    }
    /* C is scaled so that no frequency comes out louder than it went in. */
    if ((status = ssm_s4d_bind(&layer, &config, params, ssm_memory_of(bound, sizeof bound))) != SSM_OK) return status;
    peak = measure();
    if (peak > 0) {
        for (m = 0; m < 2 * modes; ++m) C[m] /= peak;
        for (i = 0; i < KERNEL; ++i) kernel[i] /= peak;
        for (i = 0; i < KERNEL / 2; ++i) response[i] /= peak * peak;
        if ((status = ssm_s4d_bind(&layer, &config, params, ssm_memory_of(bound, sizeof bound))) != SSM_OK)
            return status;
    }
    silence();
    return SSM_OK;
}

/* Adds the power of each state to that of the hop: 1 for a full-scale sine at its frequency. A state far from
 * the frequency it hears swings between more and less, hence the mean of several. */
static void look(void)
{
    size_t m;
    for (m = 0; m < modes; ++m) {
        const float re = scale[m] * state[2 * m], im = scale[m] * state[2 * m + 1];
        power[m] += (re * re + im * im) * ((float)LOOK / HOP);
    }
}

/* Takes n samples (at most BLOCK) through the layer, one at a time. Returns how many pictures it took, or
 * ssm_status if that is an error (which is negative). */
WEB_EXPORT(web_run) int web_run(int n)
{
    int i, taken = 0;
    size_t m;
    ssm_status status;
    if (n < 0 || n > BLOCK) return SSM_ERR_SHAPE;
    for (i = 0; i < n; ++i) {
        const float x = input[i] + SILENCE;
        if ((status = ssm_s4d_step(&layer, state, &x, &output[i], 1, ssm_memory_of(work, sizeof work))) != SSM_OK)
            return status;
        hop_sum += input[i] < 0 ? -input[i] : input[i];
        if (hop_samples % LOOK == 11 * (hop_samples / LOOK) % LOOK) look(); /* uneven, lest it beat with the sound */
        ++hop_samples;
        if (hop_samples < HOP) continue;
        for (m = 0; m < modes; ++m) {
            columns[taken][m] = power[m];
            power[m] = 0;
        }
        levels[taken] = hop_sum / HOP;
        if (numbers) ssm_hippo_update(memory, numbers, ++remembered, levels[taken]);
        hop_samples = 0;
        hop_sum = 0;
        ++taken;
    }
    return taken;
}

/* ---- the memory ------------------------------------------------------------------------------ */

/* Forgets everything; from now on n numbers hold the past (0: none). */
WEB_EXPORT(web_memory) int web_memory(int n)
{
    size_t i;
    if (n < 0 || n > NUMBERS) return SSM_ERR_CONFIG;
    numbers = (size_t)n;
    remembered = 0;
    for (i = 0; i < NUMBERS; ++i) memory[i] = 0;
    return SSM_OK;
}

/* What `n` numbers (put there by the page, or by web_run) say about their past, at `points` moments. */
WEB_EXPORT(web_recall) int web_recall(int n, int points)
{
    int i;
    if (n < 1 || n > NUMBERS || points < 1 || points > POINTS) return SSM_ERR_CONFIG;
    for (i = 0; i < points; ++i) ssm_hippo_recall(memory, (size_t)n, ((float)i + 0.5f) / (float)points, &past[i]);
    return SSM_OK;
}

/* ---- something to hear ----------------------------------------------------------------------- */

static float sample_rate = 48000, phase[3], chirp;
static uint32_t now, noise;

/* The signal from its beginning, at `rate` samples a second. */
WEB_EXPORT(web_signal_start) void web_signal_start(float rate)
{
    sample_rate = rate;
    now = 0;
    noise = 1;
    chirp = 0;
    phase[0] = phase[1] = phase[2] = 0;
}

static float tone(int voice, float hertz)
{
    phase[voice] += hertz / sample_rate;
    if (phase[voice] >= 1) phase[voice] -= 1;
    return sine(phase[voice]);
}

/* Rises and falls in a half sine while 0 < x < 1. */
static float bump(float x)
{
    return x > 0 && x < 1 ? sine(0.5f * x) : 0;
}

/* Fills the input with the next n samples of a signal that repeats every eight seconds: a tone that rises
 * over six octaves, short chords, two tones that beat, and a swell of noise. */
WEB_EXPORT(web_signal) void web_signal(int n)
{
    static const float chord[6] = {220, 330, 440, 277.18f, 554.37f, 880};
    int i;
    for (i = 0; i < n && i < BLOCK; ++i) {
        const float t = (float)now / sample_rate;
        float x = 0;
        if (t < 2.6f) {
            chirp = t < 0.1f ? 90 : chirp * (1 + 1.66f / sample_rate);
            x = 0.5f * bump(t / 2.6f) * tone(0, chirp);
        } else if (t < 4.6f) {
            const int beat = (int)((t - 2.8f) / 0.3f), at = beat < 0 ? 0 : beat;
            const float envelope = bump((t - 2.8f - 0.3f * (float)at) / 0.22f), root = chord[at % 6];
            if (t > 2.8f) x = envelope * 0.2f * (tone(0, root) + tone(1, 1.5f * root) + tone(2, 4 * root));
        } else if (t < 6.4f) {
            x = 0.3f * bump((t - 4.8f) / 1.6f) * (tone(0, 660) + tone(1, 664));
        } else if (t < 7.6f) {
            noise = noise * 1664525u + 1013904223u;
            x = 0.35f * bump((t - 6.4f) / 1.2f) * ((float)(noise >> 8) / 8388608.0f - 1);
        }
        input[i] = x;
        if (++now >= (uint32_t)(8 * sample_rate)) now = 0;
    }
}

/* ---- where things are ------------------------------------------------------------------------ */

WEB_EXPORT(web_input) float *web_input(void)
{
    return input;
}
WEB_EXPORT(web_output) float *web_output(void)
{
    return output;
}
WEB_EXPORT(web_columns) float *web_columns(void)
{
    return columns[0];
}
WEB_EXPORT(web_levels) float *web_levels(void)
{
    return levels;
}
WEB_EXPORT(web_kernel) float *web_kernel(void)
{
    return kernel;
}
WEB_EXPORT(web_response) float *web_response(void)
{
    return response;
}
WEB_EXPORT(web_frequency) float *web_frequency(void)
{
    return frequency;
}
WEB_EXPORT(web_decay) float *web_decay(void)
{
    return decay;
}
WEB_EXPORT(web_state) float *web_state(void)
{
    return state;
}
WEB_EXPORT(web_numbers) float *web_numbers(void)
{
    return memory;
}
WEB_EXPORT(web_past) float *web_past(void)
{
    return past;
}
WEB_EXPORT(web_state_bytes) int web_state_bytes(void)
{
    return (int)need.state;
}
