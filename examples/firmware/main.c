/* main.c - who is speaking? The classifier that ../speaker.c trains, on a microcontroller.
 *
 * No C library, no heap: the weights are constants in flash (model.h, which `speaker --firmware` writes), the
 * state and the scratch memory two arrays. Recordings are fed frame by frame, as a microphone would, and the
 * opinion after each frame is compared with the desktop's, bit by bit. The few lines of `frame` are those of
 * stream_frame in ../speaker.c; that they stay the same is what the comparison checks.
 *
 * Prints the decisions, instructions for each frame, RAM and stack. Exit status 0: all as on the desktop. */
#include "../../ssm.h"
#include "board.h"
#include "model.h"

enum {
    RECORDINGS = sizeof model_recording / sizeof model_recording[0]
};

static ssm_mamba block;
static ssm_linear embed;
static ssm_linear head;
static ssm_norm norm;

static ssm_real state[MODEL_STATE]; /* of the Mamba block: all zero at the start of a recording */
static uint32_t work[(MODEL_WORK + 3) / 4];
static ssm_real sum[MODEL_WIDTH]; /* of the normalised outputs so far */
static ssm_real logits[MODEL_SPEAKERS];

static void print_number(uint32_t number)
{
    char text[11], *p = text + sizeof text;
    *--p = 0;
    do {
        *--p = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    board_print(p);
}

static void print_named(const char *before, uint32_t number, const char *after)
{
    board_print(before);
    print_number(number);
    board_print(after);
}

static void linear(ssm_linear *l, size_t in, size_t out, const uint32_t *packed, const float *bias)
{
    l->in = in;
    l->out = out;
    l->packed = packed;
    l->bias = bias;
    l->format = MODEL_FORMAT;
}

/* Points the layers to the tables in flash; nothing is copied. */
static ssm_status attach(void)
{
    ssm_mamba_config config = {0};
    config.d_model = MODEL_WIDTH;
    config.pre_norm = 1;
    config.residual = 1;
    config.format = MODEL_FORMAT;
    linear(&embed, MODEL_CHANNELS, MODEL_WIDTH, model_embed, model_embed_bias);
    linear(&head, MODEL_WIDTH, MODEL_SPEAKERS, model_head, model_head_bias);
    norm.dim = MODEL_WIDTH;
    norm.weight = model_norm;
    return ssm_mamba_attach(&block, &config, ssm_bound_of(model_block, MODEL_BLOCK_BYTES));
}

static void reset_stream(void)
{
    size_t i;
    for (i = 0; i < MODEL_STATE; ++i) state[i] = 0;
    for (i = 0; i < MODEL_WIDTH; ++i) sum[i] = 0;
}

/* One frame in, the opinion after `frames` frames in logits. */
static ssm_status frame(const float *x, size_t frames)
{
    ssm_real in[MODEL_CHANNELS], h[MODEL_WIDTH];
    ssm_status status;
    size_t i;
    for (i = 0; i < MODEL_CHANNELS; ++i) in[i] = (x[i] - model_mean[i]) * model_scale[i];
    status = ssm_linear_forward(&embed, ssm_rows_of(in, 0), ssm_rows_out_of(h, 0), 1);
    if (status == SSM_OK) status = ssm_mamba_step(&block, state, h, h, 1, ssm_memory_of(work, sizeof work));
    if (status == SSM_OK) status = ssm_norm_forward(&norm, ssm_rows_of(h, 0), ssm_rows_out_of(h, 0), 1);
    if (status != SSM_OK) return status;
    for (i = 0; i < MODEL_WIDTH; ++i) sum[i] += h[i];
    for (i = 0; i < MODEL_WIDTH; ++i) h[i] = sum[i] / (ssm_real)frames;
    return ssm_linear_forward(&head, ssm_rows_of(h, 0), ssm_rows_out_of(logits, 0), 1);
}

/* Called through a volatile pointer, so that no part of it moves across the counter. */
static ssm_status (*volatile counted)(const float *x, size_t frames) = frame;

static int best(void)
{
    int i, k = 0;
    for (i = 1; i < MODEL_SPEAKERS; ++i)
        if (logits[i] > logits[k]) k = i;
    return k;
}

/* FNV-1a over the bits of the logits. */
static uint32_t hash_logits(uint32_t hash)
{
    union {
        float value;
        uint32_t bits;
    } q;
    int i, k;
    for (k = 0; k < MODEL_SPEAKERS; ++k) {
        q.value = logits[k];
        for (i = 0; i < 4; ++i, q.bits >>= 8) hash = (hash ^ (q.bits & 255)) * 16777619u;
    }
    return hash;
}

static uint32_t bytes_between(const uint32_t *from, const uint32_t *to)
{
    return (uint32_t)((uintptr_t)to - (uintptr_t)from);
}

int main(void)
{
    uint32_t most = 0, total = 0, frames = 0, same = 0, variables;
    ssm_status status = attach();
    size_t i, t;
    if (status != SSM_OK) {
        print_named("attach: error ", (uint32_t)-status, "\n");
        return 2;
    }
    for (i = 0; i < RECORDINGS; ++i) {
        const recording *r = &model_recording[i];
        uint32_t hash = 2166136261u;
        reset_stream();
        for (t = 0; t < r->frames; ++t) {
            uint32_t count;
            board_count_start();
            status = counted(r->x + t * MODEL_CHANNELS, t + 1);
            count = board_count_stop();
            if (status != SSM_OK || count == BOARD_TOO_LONG) {
                print_named("frame: error ", (uint32_t)-status, "\n");
                return 2;
            }
            most = count > most ? count : most;
            total += count;
            frames += 1;
            hash = hash_logits(hash);
        }
        print_named("speaker ", (uint32_t)r->speaker + 1, ", ");
        print_number((uint32_t)r->frames);
        print_named(" frames, answer ", (uint32_t)best() + 1, hash == r->hash ? "\n" : ", NOT THE DESKTOP'S BITS\n");
        same += hash == r->hash && best() == r->answer;
    }
    variables = bytes_between(board_data_start, board_data_end) + bytes_between(board_bss_start, board_bss_end);
    print_named("", same, " of ");
    print_number(RECORDINGS);
    board_print(" recordings give the desktop's bits\n");
    print_named("instructions ", total / frames, " a frame, at most ");
    print_number(most);
    print_named("\nflash ", MODEL_BYTES, " bytes of " MODEL_NAME " weights\n");
    print_named("RAM ", sizeof state, " state + ");
    print_number(sizeof work);
    print_named(" scratch, ", variables, " with all variables; stack ");
    print_number(board_depth(board_stack_top));
    board_print("\n");
    return same == RECORDINGS ? 0 : 1;
}
