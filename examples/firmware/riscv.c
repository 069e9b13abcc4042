/* riscv.c - start-up code for 32-bit RISC-V on QEMU's `virt` board: FPU, variables, serial port.
 *
 * Sources: The RISC-V Instruction Set Manual II (mstatus 3.1.6, minstret 3.1.10); QEMU's hw/riscv/virt.c for
 * the addresses of the serial port and of the device that ends the run. */
#include "board.h"

#include <stddef.h>

int main(void);
void reset(void);
void start(void);
void fault(void);
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#define UART (*(volatile uint8_t *)0x10000000u)      /* a byte written here is sent */
#define FINISHER (*(volatile uint32_t *)0x00100000u) /* 0x5555: success; 0x3333 and a status above: failure */

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

void board_print(const char *text)
{
    while (*text) UART = (uint8_t)*text++;
}

static void leave(uint32_t status)
{
    FINISHER = status ? status << 16 | 0x3333 : 0x5555;
    for (;;) {
    }
}

__attribute__((aligned(4))) void fault(void)
{
    board_print("fault\n");
    leave(99);
}

static uint32_t counted_from;

static uint32_t instructions(void)
{
    uint32_t low;
    __asm volatile("csrr %0, minstret" : "=r"(low)::"memory");
    return low;
}

void board_count_start(void)
{
    counted_from = instructions();
}

/* QEMU with -icount shift=0: the register counts in nanoseconds, one for each instruction. */
uint32_t board_count_stop(void)
{
    return instructions() - counted_from;
}

/* Where the processor begins: traps lead to fault, the FPU is on (mstatus.FS = initial), gp points into the
 * small variables and sp to the top of the stack. */
__attribute__((naked, section(".reset"))) void reset(void)
{
    __asm volatile(".option push\n"
                   ".option norelax\n"
                   "la   gp, riscv_global_pointer\n"
                   ".option pop\n"
                   "la   sp, board_stack_top\n"
                   "la   t0, fault\n"
                   "csrw mtvec, t0\n"
#ifdef __riscv_flen
                   "li   t0, 0x2000\n"
                   "csrs mstatus, t0\n"
                   "csrw fcsr, zero\n"
#endif
                   "j    start\n");
}

/* The image is loaded whole, with .data in place. */
void start(void)
{
    volatile uint32_t *to; /* or else the compiler may call memset */
    board_paint();
    for (to = board_bss_start; to < board_bss_end; ++to) *to = 0;
    leave((uint32_t)main());
}
