/* One of two units that each keep a private copy. */
#define SSM_STATIC
#include "ssm.h"

int static_b_version(void);

int main(void)
{
    return ssm_version() == static_b_version() ? 0 : 1;
}
