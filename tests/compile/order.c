/* Included before and after other headers, twice as a header and twice with the implementation. */
#include "ssm.h"
#include "ssm.h"
#include <math.h>
#include <string.h>
#define SSM_IMPLEMENTATION
#include "ssm.h"
#include "ssm.h"
#include <stdio.h>

int main(void)
{
    return strcmp(ssm_status_string(SSM_OK), "success") != 0;
}
