/* The other one; the implementation comes with SSM_STATIC, asked for or not. */
#define SSM_STATIC
#define SSM_IMPLEMENTATION
#include "ssm.h"

int static_b_version(void);

int static_b_version(void)
{
    return ssm_version();
}
