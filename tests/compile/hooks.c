/* Every macro a user may define, at an unusual value. */
#include <stddef.h>

static int assertions;

static void copy(void *to, const void *from, size_t n)
{
    while (n--) ((unsigned char *)to)[n] = ((const unsigned char *)from)[n];
}

static void fill(void *to, int value, size_t n)
{
    while (n--) ((unsigned char *)to)[n] = (unsigned char)value;
}

#define SSM_NO_LIBC
#define SSM_MEMCPY copy
#define SSM_MEMSET fill
#define SSM_ASSERT(condition) ((void)(assertions += !(condition)))
#define SSM_NO_OPENMP
#define SSM_ALIGN 16
#define SSM_TILE_ROWS 3
#define SSM_DEFAULT_ISA SSM_ISA_SCALAR
#define SSM_NO_AVX512
#define SSM_IMPLEMENTATION
#define main use
#include "use.c"
#undef main

int main(void)
{
    return use() != 0 || assertions != 0;
}
