/* firmware.c - what one step of a layer costs a microcontroller: instructions, RAM, stack.
 *
 * The layers of a published keyword-spotting Mamba: d_model 64, d_inner 128, d_state 16, dt_rank 4, d_conv 4, and S6
 * alone at the inner width. Compiled for a desktop it writes the bound weights as C tables:
 *
 *   tables FOLDER     FOLDER/s6_real/table.h and so on: {s6, mamba}_{real, bf16, int8}
 *   tables --ram      state and scratch of one step of every layer, as a Markdown table
 *
 * Compiled with -ffreestanding and such a table it is firmware: it attaches the table, streams STEPS inputs and
 * prints, separated by blanks: instructions a step (mean), most, bytes of weights, state, scratch and stack, and
 * "same" if all outputs have the desktop's bits, else "other". bench/firmware.sh runs it. */
#if __STDC_HOSTED__
#define SSM_ALIGN 8 /* as examples/firmware/ssm.c has it */
#define SSM_IMPLEMENTATION
#endif
#include "../ssm.h"

enum {
    STEPS = 100
};

/* Inputs that are the same on every machine: multiples of 1/64 in -2..2. */
static void fill_input(ssm_real *x, size_t count, uint32_t *seed)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        *seed = *seed * 1664525u + 1013904223u;
        x[i] = (ssm_real)((int32_t)(*seed >> 24) - 128) / 64;
    }
}

/* FNV-1a over bits. */
static uint32_t hash_output(uint32_t hash, const ssm_real *y, size_t count)
{
    size_t i;
    int k;
    for (i = 0; i < count; ++i) {
        union {
            float value;
            uint32_t bits;
        } q;
        q.value = (float)y[i];
        for (k = 0; k < 4; ++k, q.bits >>= 8) hash = (hash ^ (q.bits & 255)) * 16777619u;
    }
    return hash;
}

#if __STDC_HOSTED__

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(ssm_status status)
{
    if (status == SSM_OK) return;
    fprintf(stderr, "tables: %s\n", ssm_status_string(status));
    exit(1);
}

static void *get_memory(size_t bytes)
{
    void *p = calloc(bytes, 1); /* never freed: the program is about to end */
    if (!p) exit(1);
    return p;
}

static FILE *open_table(const char *folder, const char *layer, const char *format)
{
    char path[1024];
    FILE *file;
    if (strlen(folder) > 900) exit(1);
    sprintf(path, "%s/%s_%s/table.h", folder, layer, format);
    file = fopen(path, "w");
    if (!file) {
        fprintf(stderr, "tables: cannot write %s\n", path);
        exit(1);
    }
    return file;
}

static void write_table(FILE *file, const char *layer, const char *format, const ssm_sizes *need, size_t width,
                        ssm_bound bound, uint32_t hash)
{
    size_t i;
    fprintf(file, "typedef ssm_%s bench_layer;\ntypedef ssm_%s_config bench_config;\n", layer, layer);
    fprintf(file, "#define bench_attach ssm_%s_attach\n#define bench_step ssm_%s_step\n", layer, layer);
    fprintf(file, "enum { WIDTH = %lu, STATE = %lu, WORK = %lu, BLOCK = %lu };\n", (unsigned long)width,
            (unsigned long)(need->state / sizeof(ssm_real)), (unsigned long)need->work_step,
            (unsigned long)bound.bytes);
    fprintf(file, "#define HASH 0x%08lx\n#define FORMAT %s\n", (unsigned long)hash, format);
    fprintf(file, "static const uint32_t block[] = {");
    for (i = 0; i < bound.bytes; i += 4) {
        uint32_t word = 0;
        memcpy(&word, (const char *)bound.data + i, bound.bytes - i < 4 ? bound.bytes - i : 4);
        fprintf(file, "%s0x%08lx,", i % 40 ? " " : "\n    ", (unsigned long)word);
    }
    fprintf(file, "\n};\n");
    if (ferror(file) | fclose(file)) exit(1);
}

static ssm_seqs one_step; /* one stream */

/* The same for both layers but for their names and their configs. */
#define TABLES(layer)                                                                                     \
    static void tables_##layer(const char *folder, const ssm_##layer##_config *config, const char *name,  \
                               const char *constant)                                                      \
    {                                                                                                     \
        const size_t width = config->d_model;                                                             \
        uint32_t seed = 1, hash = 2166136261u;                                                            \
        ssm_##layer bound;                                                                                \
        ssm_sizes need;                                                                                   \
        ssm_real *params, *state, x[128];                                                                 \
        void *block, *work;                                                                               \
        int t;                                                                                            \
        must(ssm_##layer##_sizes(config, &one_step, &need));                                              \
        params = (ssm_real *)get_memory(need.params);                                                     \
        state = (ssm_real *)get_memory(need.state);                                                       \
        block = get_memory(need.bound);                                                                   \
        work = get_memory(need.work_step);                                                                \
        must(ssm_##layer##_init(config, params, 1));                                                      \
        must(ssm_##layer##_bind(&bound, config, params, ssm_memory_of(block, need.bound)));               \
        for (t = 0; t < STEPS; ++t) {                                                                     \
            fill_input(x, width, &seed);                                                                  \
            must(ssm_##layer##_step(&bound, state, x, x, 1, ssm_memory_of(work, need.work_step)));        \
            hash = hash_output(hash, x, width);                                                           \
        }                                                                                                 \
        write_table(open_table(folder, #layer, name), #layer, constant, &need, width, bound.bound, hash); \
    }

TABLES(s6)
TABLES(mamba)

#define RAM_ROW(layer, label, config)                       \
    must(ssm_##layer##_sizes(&(config), &one_step, &need)); \
    printf("| %s | %s | %lu | %lu |\n", #layer, label, (unsigned long)need.state, (unsigned long)need.work_step)

static void print_ram(void)
{
    ssm_selective_config selective = {0};
    ssm_s6_config s6 = {0};
    ssm_mamba_config mamba = {0};
    ssm_s4d_config s4d = {0};
    ssm_s4_config s4 = {0};
    ssm_s5_config s5 = {0};
    ssm_sizes need;
    selective.d_model = s6.d_model = mamba.d_model = s4d.d_model = s4.d_model = s5.d_model = 64;
    selective.d_state = s6.d_state = mamba.d_state = s4d.d_state = s4.d_state = s5.d_state = 16;
    printf("| layer | shape | state | scratch of one step |\n|---|---|--:|--:|\n");
    RAM_ROW(selective, "D 64, N 16", selective);
    RAM_ROW(s6, "D 64, N 16", s6);
    RAM_ROW(mamba, "M 64, E 128, N 16", mamba);
    RAM_ROW(s4d, "H 64, N 16", s4d);
    RAM_ROW(s4, "H 64, N 16", s4);
    RAM_ROW(s5, "H 64, P 16", s5);
}

int main(int argc, char **argv)
{
    static const struct {
        ssm_format format;
        const char *name, *constant;
    } formats[] = {{SSM_FORMAT_REAL, "real", "SSM_FORMAT_REAL"},
                   {SSM_FORMAT_BF16, "bf16", "SSM_FORMAT_BF16"},
                   {SSM_FORMAT_INT8, "int8", "SSM_FORMAT_INT8"}};
    ssm_mamba_config mamba = {0};
    ssm_s6_config s6 = {0};
    size_t i;
    if (argc != 2) {
        fprintf(stderr, "usage: tables FOLDER | --ram\n");
        return 1;
    }
    one_step.batch = one_step.len = 1;
    if (!strcmp(argv[1], "--ram")) {
        print_ram();
        return 0;
    }
    mamba.d_model = 64;
    s6.d_model = 128;
    s6.dt_rank = 4;
    for (i = 0; i < 3; ++i) {
        mamba.format = s6.format = formats[i].format;
        tables_mamba(argv[1], &mamba, formats[i].name, formats[i].constant);
        tables_s6(argv[1], &s6, formats[i].name, formats[i].constant);
    }
    return 0;
}

#else /* firmware */

#include "../examples/firmware/board.h"
#include "table.h"

static bench_layer layer;
static ssm_real state[STATE];
static uint32_t work[(WORK + 3) / 4];
static ssm_real x[WIDTH];

static ssm_status (*volatile step)(const bench_layer *, ssm_real *, const ssm_real *, ssm_real *, size_t,
                                   ssm_memory) = bench_step;

static void print_number(uint32_t number)
{
    char text[12], *p = text + sizeof text;
    *--p = 0;
    *--p = ' ';
    do {
        *--p = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    board_print(p);
}

int main(void)
{
    bench_config config = {0};
    uint32_t seed = 1, hash = 2166136261u, total = 0, most = 0, deepest = 0;
    const uint32_t *sp;
    int t;
    config.d_model = WIDTH;
    config.dt_rank = 4;
    config.format = FORMAT;
    if (bench_attach(&layer, &config, ssm_bound_of(block, BLOCK)) != SSM_OK) return 2;
    for (t = 0; t < STEPS; ++t) {
        uint32_t count, depth;
        fill_input(x, WIDTH, &seed);
        board_paint();
        sp = board_stack_pointer();
        board_count_start();
        if (step(&layer, state, x, x, 1, ssm_memory_of(work, sizeof work)) != SSM_OK) return 2;
        count = board_count_stop();
        depth = board_depth(sp);
        if (count == BOARD_TOO_LONG) return 3;
        most = count > most ? count : most;
        deepest = depth > deepest ? depth : deepest;
        total += count;
        hash = hash_output(hash, x, WIDTH);
    }
    print_number(total / STEPS);
    print_number(most);
    print_number(BLOCK);
    print_number(sizeof state);
    print_number(sizeof work);
    print_number(deepest);
    board_print(hash == HASH ? "same\n" : "other\n");
    return 0;
}

#endif
