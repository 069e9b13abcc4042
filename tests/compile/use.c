/* A program without the implementation: takes the size of a layer, runs an op, prints nothing. */
#include "ssm.h"

int main(void)
{
    const ssm_real x[3] = {3, 4, 0}, ones[3] = {1, 1, 1};
    ssm_real y[3] = {0, 0, 0};
    ssm_mamba_config config = {0};
    ssm_norm norm = {0};
    ssm_seqs seqs = {0};
    ssm_sizes need;
    config.d_model = 8;
    seqs.batch = seqs.len = 1;
    if (ssm_version() != SSM_VERSION) return 1;
    if (ssm_mamba_sizes(&config, &seqs, &need) != SSM_OK || need.params == 0) return 2;
    norm.dim = 3;
    norm.weight = ones;
    if (ssm_norm_forward(&norm, ssm_rows_of(x, 0), ssm_rows_out_of(y, 0), 1) != SSM_OK) return 3;
    return y[0] > 1 && y[1] > y[0] && y[2] < 1 ? 0 : 4;
}
