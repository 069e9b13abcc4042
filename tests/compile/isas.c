/* Prints the instruction sets of this build: of those that the machine runs, as one line. HEADER: how ssm.h is found;
 * without it, it stands above, pasted. */
#ifdef HEADER
#ifndef SSM_IMPLEMENTATION
#define SSM_IMPLEMENTATION
#endif
#include HEADER
#endif
#include <stdio.h>

int main(void)
{
    int i;
    for (i = SSM_ISA_SCALAR; i < ssm_isa_count(); ++i)
        if (ssm_isa_available((ssm_isa)i)) printf("%s ", ssm_isa_name((ssm_isa)i));
    printf("\n");
    return 0;
}
