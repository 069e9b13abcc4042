/* fuzz.h - what every fuzz_*.c uses: choices out of a byte string, and the two entrances of a fuzz program.
 *
 *   fuzz_NAME [--seed N] [SECONDS]      random inputs for that long (default 10; 0: one input), from seed N
 *
 * or, with -fsanitize=fuzzer -DFUZZ_ENGINE, LLVMFuzzerTestOneInput. An input is bytes, and after the last of them a
 * generator: a random input is no bytes and a seed. Input i of a run has the seed N + i, and a failure prints the one
 * that replays it. A program defines FUZZ_NAME, includes this file and defines fuzz_input. */
#ifndef SSM_FUZZ_H
#define SSM_FUZZ_H

#define SSM_COMPLEX_LAYERS /* on every target */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#include "test.h"
#include <signal.h>
#include <time.h>

static void fuzz_input(void);

/*--- choices ---*/

static const uint8_t *fuzz_bytes;
static size_t fuzz_left;
static ssm_rng fuzz_rng;
static uint64_t fuzz_seed; /* of the running input */

static size_t fuzz_byte(void)
{
    if (!fuzz_left) return (size_t)(ssm_rng_next(&fuzz_rng) >> 56);
    --fuzz_left;
    return *fuzz_bytes++;
}

/* 0 .. count - 1 */
static size_t fuzz_below(size_t count)
{
    size_t value = fuzz_byte();
    if (count > 256) value = value << 8 | fuzz_byte();
    if (count > 65536) value = value << 16 | fuzz_byte() << 8 | fuzz_byte();
    return value % count;
}

static int fuzz_chance(size_t one_in)
{
    return fuzz_below(one_in) == 0;
}

/* from .. to, small ones more often. */
static size_t fuzz_between(size_t from, size_t to)
{
    const size_t span = to - from + 1;
    return from + fuzz_below(fuzz_chance(2) ? (span < 5 ? span : 5) : span);
}

/* Numbers: one draw of the input seeds them all, so that bytes are spent on what matters. */
static ssm_rng fuzz_numbers(void)
{
    ssm_rng rng;
    rng.state = fuzz_below(65536);
    return rng;
}

static ssm_real *fuzz_normal(size_t count, double scale)
{
    ssm_rng rng = fuzz_numbers();
    return test_normal(&rng, count, scale);
}

/* Elements that are NaN or infinite. */
static size_t fuzz_not_finite(const ssm_real *p, size_t count)
{
    size_t i, bad = 0;
    for (i = 0; i < count; ++i) bad += !(p[i] - p[i] == 0);
    return bad;
}

/* Memory as test_alloc leaves it: nothing has been written. */
static int fuzz_untouched(const void *p, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)p;
    size_t i;
    for (i = 0; i < bytes; ++i)
        if (at[i] != 0x5a) return 0;
    return 1;
}

/*--- the two entrances ---*/

static void fuzz_run(const uint8_t *data, size_t size, uint64_t seed)
{
    size_t i;
    fuzz_bytes = data;
    fuzz_left = size;
    fuzz_seed = seed;
    fuzz_rng.state = seed;
    for (i = 0; i < size; ++i) fuzz_rng.state = fuzz_rng.state * 31 + data[i];
    test_failures = 0;
    fuzz_input();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_run(data, size, 0);
    if (test_failures) abort();
    return 0;
}

#ifndef FUZZ_ENGINE /* libFuzzer has its own main */

static void fuzz_failed(void)
{
    printf("FAIL fuzz/" FUZZ_NAME " (replay: --seed %lu 0)\n", (unsigned long)fuzz_seed);
    fflush(stdout);
}

#if defined(__SANITIZE_ADDRESS__) || defined(TEST_SANITIZED)
void __sanitizer_set_death_callback(void (*callback)(void));
#define FUZZ_ON_DEATH() __sanitizer_set_death_callback(fuzz_failed)
#else
static void fuzz_signal(int number)
{
    fuzz_failed();
    signal(number, SIG_DFL);
    raise(number);
}
#define FUZZ_ON_DEATH() (signal(SIGSEGV, fuzz_signal), signal(SIGFPE, fuzz_signal), signal(SIGABRT, fuzz_signal))
#endif

int main(int argc, char **argv)
{
    const time_t start = time(NULL);
    uint64_t seed = (uint64_t)start % 1000000 * 1000;
    double seconds = 10;
    unsigned long inputs = 0;
    int arg = 1;
    if (arg + 1 < argc && !strcmp(argv[arg], "--seed")) {
        seed = (uint64_t)strtoul(argv[arg + 1], NULL, 10);
        arg += 2;
    }
    if (arg < argc) seconds = strtod(argv[arg], NULL);
    FUZZ_ON_DEATH();
    do {
        fuzz_run(NULL, 0, seed + inputs);
        ++inputs;
    } while (!test_failures && difftime(time(NULL), start) < seconds);
    if (test_failures) fuzz_failed();
    else printf("ok   fuzz/" FUZZ_NAME " (%lu inputs, seed %lu)\n", inputs, (unsigned long)seed);
    return test_failures > 0;
}

#endif
#endif
