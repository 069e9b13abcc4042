/* The implementation and nothing else. */
#define SSM_IMPLEMENTATION
#include "ssm.h"
