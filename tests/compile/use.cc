// The same from C++, where an empty brace initialises.
#include "ssm.h"

#include <vector>

int main()
{
    ssm_s6_config config{};
    ssm_seqs seqs{};
    ssm_sizes need;
    ssm_s6 layer;
    config.d_model = 6;
    seqs.batch = seqs.len = 1;
    if (ssm_s6_sizes(&config, &seqs, &need) != SSM_OK) return 1;
    std::vector<ssm_real> params(need.params / sizeof(ssm_real)), state(need.state / sizeof(ssm_real)), x(6, 1), y(6);
    std::vector<unsigned char> bound(need.bound), work(need.work);
    if (ssm_s6_init(&config, params.data(), 1) != SSM_OK) return 2;
    if (ssm_s6_bind(&layer, &config, params.data(), ssm_memory_of(bound.data(), bound.size())) != SSM_OK) return 3;
    if (ssm_s6_step(&layer, state.data(), x.data(), y.data(), 1, ssm_memory_of(work.data(), work.size())) != SSM_OK)
        return 4;
    return y[0] == 0; // D is one, so the output is not zero
}
