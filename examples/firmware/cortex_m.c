/* cortex_m.c - start-up code for Cortex-M0 to M55 under QEMU: vector table, FPU, variables, semihosting.
 *
 *   -DBOARD_TICK=N    one tick of SysTick in quarter nanoseconds
 *
 * Sources: ARMv7-M Architecture Reference Manual (vector table B1.5, CPACR B3.2.20, SysTick B3.3) and
 * "Semihosting for AArch32 and AArch64" by Arm. */
#include "board.h"

#include <stddef.h>

int main(void);
void reset(void);
void start(void);
void fault(void);
void semihost(uint32_t operation, const void *argument);
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

extern uint32_t board_data_load[]; /* where the linker left the initial values, in flash */

enum {
    SYS_WRITE0 = 0x04,
    SYS_EXIT_EXTENDED = 0x20
};
enum {
    STOPPED_APPLICATION_EXIT = 0x20026
};

#define SYST_CSR (*(volatile uint32_t *)0xe000e010u) /* bit 0 on, bit 2 processor clock, bit 16 passed zero */
#define SYST_RVR (*(volatile uint32_t *)0xe000e014u) /* reload value */
#define SYST_CVR (*(volatile uint32_t *)0xe000e018u) /* counts down, 24 bits */

/* Without a C library the compiler still expects these: it calls them to copy structs. */
void *memcpy(void *to, const void *from, size_t bytes)
{
    unsigned char *d = (unsigned char *)to;
    const unsigned char *s = (const unsigned char *)from;
    for (; bytes; --bytes) *d++ = *s++;
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *d = (unsigned char *)to;
    for (; bytes; --bytes) *d++ = (unsigned char)value;
    return to;
}

/* The debugger, here QEMU, reads operation and argument from r0 and r1. */
__attribute__((naked, noinline)) void semihost(uint32_t operation __attribute__((unused)),
                                               const void *argument __attribute__((unused)))
{
    __asm volatile("bkpt #0xab\n"
                   "bx   lr\n");
}

void board_print(const char *text)
{
    semihost(SYS_WRITE0, text);
}

static void leave(uint32_t status)
{
    const uint32_t block[2] = {STOPPED_APPLICATION_EXIT, status};
    semihost(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

void fault(void)
{
    board_print("fault\n");
    leave(99);
}

void board_count_start(void)
{
    SYST_RVR = 0xffffff;
    SYST_CVR = 0; /* any write: zero, then the reload value with the next tick */
    SYST_CSR = 5;
    while (SYST_CVR == 0) {
    }
    (void)SYST_CSR; /* reading clears bit 16 */
}

/* QEMU with -icount shift=6 takes 64 ns for every instruction. */
uint32_t board_count_stop(void)
{
    const uint32_t ticks = 0xffffff - SYST_CVR;
    return SYST_CSR >> 16 & 1 ? BOARD_TOO_LONG : ticks * BOARD_TICK / 256;
}

/* Where the processor begins. The FPU is switched on (full access to coprocessors 10 and 11) before any
 * compiled code, which may use its registers for a copy. */
__attribute__((naked)) void reset(void)
{
    __asm volatile(
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
        "ldr  r0, =0xe000ed88\n"
        "ldr  r1, [r0]\n"
        "orr  r1, r1, #0xf00000\n"
        "str  r1, [r0]\n"
        "dsb\n"
        "isb\n"
#endif
        "bl   start\n");
}

void start(void)
{
    const uint32_t *from = board_data_load;
    volatile uint32_t *to; /* or else the compiler may call memcpy and memset */
    board_paint();
    for (to = board_data_start; to < board_data_end; ++to) *to = *from++;
    for (to = board_bss_start; to < board_bss_end; ++to) *to = 0;
    leave((uint32_t)main());
}

/* The processor loads its stack pointer from the first word and jumps to the second. */
typedef union vector {
    uint32_t *stack;
    void (*handler)(void);
} vector;

extern const vector vectors[16];
__attribute__((section(".vectors"))) const vector vectors[16] = {
    {board_stack_top},
    {.handler = reset},
    {.handler = fault},
    {.handler = fault},
    {.handler = fault},
    {.handler = fault},
    {.handler = fault},
    {.handler = fault},
    {NULL},
    {NULL},
    {NULL},
    {.handler = fault},
    {.handler = fault},
    {NULL},
    {.handler = fault},
    {.handler = fault},
};
