/* board.h - what the programs ask of a board: text out, an instruction counter, the depth of the stack.
 * cortex_m.c and riscv.c provide it, with the start-up code that runs before main. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#define BOARD_TOO_LONG 0xffffffffu
#define BOARD_PAINT 0x5ca1ab1eu /* what start-up and board_paint leave in unused stack */

extern uint32_t board_stack_bottom[], board_stack_top[]; /* from the linker script; the stack grows down */
extern uint32_t board_data_start[], board_data_end[];    /* initialised variables, copied to RAM by start-up */
extern uint32_t board_bss_start[], board_bss_end[];      /* variables that start at zero */

void board_print(const char *text);

/* Instructions between start and stop, the calls themselves included; BOARD_TOO_LONG beyond about ten million. */
void board_count_start(void);
uint32_t board_count_stop(void);

static inline uint32_t *board_stack_pointer(void)
{
    uint32_t *sp;
#ifdef __riscv
    __asm volatile("mv %0, sp" : "=r"(sp));
#else
    __asm volatile("mov %0, sp" : "=r"(sp));
#endif
    return sp;
}

/* Paints the stack below the caller's; depth: bytes below `from` that have been written since. */
static inline void board_paint(void)
{
    volatile uint32_t *p = board_stack_pointer();
    while (p > board_stack_bottom) *--p = BOARD_PAINT;
}

static inline uint32_t board_depth(const uint32_t *from)
{
    const volatile uint32_t *p = board_stack_bottom;
    while (p < from && *p == BOARD_PAINT) ++p;
    return (uint32_t)((uintptr_t)from - (uintptr_t)p);
}

#endif
