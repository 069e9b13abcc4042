/* ssm.c - the one file of the firmware that holds the library. Without a C library, and blocks aligned for a core
 * whose widest access is 8 bytes. */
#define SSM_NO_LIBC
#define SSM_ALIGN 8
#define SSM_IMPLEMENTATION
#include "../../ssm.h"
