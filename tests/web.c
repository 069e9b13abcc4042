/* web.c - the numbers that the page in examples/web must show, from a native build of the same code. One line
 * for each kind of layer and array, in the order and format of selftest() in examples/web/index.html. */
#include "../examples/web/layer.c"

#include <stdio.h>

static uint32_t fold(uint32_t hash, const float *values, size_t n)
{
    size_t i;
    for (i = 0; i < n; ++i) {
        union {
            float value;
            uint32_t bits;
        } word;
        word.value = values[i];
        hash = (hash ^ word.bits) * 16777619u;
    }
    return hash;
}

static void report(int kind, const char *name, uint32_t hash)
{
    printf("%d %s %08lx\n", kind, name, (unsigned long)hash);
}

int main(void)
{
    static const int states[KINDS] = {128, 64, 96, 256};
    const uint32_t start = 2166136261u;
    int kind, frame;
    for (kind = 0; kind < KINDS; ++kind) {
        const float shift = (float)kind;
        const size_t half = (size_t)states[kind] / 2;
        uint32_t sound = start, pictures = start;
        if (web_layer(kind, states[kind], 8000.0f / 48000.0f, -shift / 4, shift / 2) != SSM_OK) return 1;
        web_memory(32 << kind);
        web_signal_start(48000);
        for (frame = 0; frame < 480; ++frame) {
            int taken, c;
            web_signal(800);
            taken = web_run(800);
            if (taken < 0) return 1;
            sound = fold(sound, web_output(), 800);
            for (c = 0; c < taken; ++c) pictures = fold(pictures, web_columns() + c * MODES, half);
            pictures = fold(pictures, web_levels(), (size_t)taken);
        }
        web_recall(32 << kind, 500);
        report(kind, "output", sound);
        report(kind, "pictures", pictures);
        report(kind, "state", fold(start, web_state(), 2 * half));
        report(kind, "memory", fold(start, web_numbers(), (size_t)32 << kind));
        report(kind, "past", fold(start, web_past(), 500));
        report(kind, "kernel", fold(start, web_kernel(), KERNEL));
        report(kind, "response", fold(start, web_response(), KERNEL / 2));
        report(kind, "poles", fold(fold(start, web_frequency(), half), web_decay(), half));
    }
    return 0;
}
