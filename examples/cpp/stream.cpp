// stream.cpp - ssm.h in C++17: memory in vectors, one class template for every layer, states as values.
//
// The library allocates nothing and every layer has the same verbs, so that a C++ program owns all memory
// itself and wraps them all at once. A bound layer is read only: any number of streams share it, each a
// vector that is copied to fork the stream and kept to rewind it.
#define SSM_IMPLEMENTATION
#include "../../ssm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <vector>

using reals = std::vector<ssm_real>;

static void must(ssm_status status)
{
    if (status != SSM_OK) throw std::runtime_error(ssm_status_string(status));
}

template <class Bound, class Config, auto Sizes, auto Init, auto Bind, auto Forward, auto Step> class layer
{
  public:
    layer(const Config &wanted, std::uint64_t seed) : config(wanted)
    {
        const ssm_sizes need = sizes(1, 1);
        weights.resize(need.params / sizeof(ssm_real));
        memory.resize(need.bound);
        must(Init(&config, weights.data(), seed));
        must(Bind(&bound, &config, weights.data(), ssm_memory_of(memory.data(), memory.size())));
    }
    layer(const layer &) = delete; // `bound` points into `memory`
    layer &operator=(const layer &) = delete;

    reals start() const // of a stream
    {
        return reals(sizes(1, 1).state / sizeof(ssm_real));
    }

    reals forward(reals &state, const reals &x) const
    {
        const ssm_seqs seqs = sequences(1, x.size() / config.d_model);
        std::vector<unsigned char> work(sizes(seqs.batch, seqs.len).work);
        reals y(x.size());
        must(Forward(&bound, state.data(), x.data(), y.data(), &seqs, ssm_memory_of(work.data(), work.size())));
        return y;
    }

    // One time step, in place, with the caller's workspace: nothing is allocated here.
    void step(reals &state, ssm_real *x, std::vector<unsigned char> &work) const
    {
        must(Step(&bound, state.data(), x, x, 1, ssm_memory_of(work.data(), work.size())));
    }

    ssm_sizes sizes(std::size_t batch, std::size_t len) const
    {
        const ssm_seqs seqs = sequences(batch, len);
        ssm_sizes need;
        must(Sizes(&config, &seqs, &need));
        return need;
    }

  private:
    static ssm_seqs sequences(std::size_t batch, std::size_t len)
    {
        ssm_seqs seqs{};
        seqs.batch = batch;
        seqs.len = len;
        return seqs;
    }

    Config config;
    Bound bound;
    reals weights;
    std::vector<unsigned char> memory;
};

#define LAYER(X) layer<X, X##_config, X##_sizes, X##_init, X##_bind, X##_forward, X##_step>
using mamba = LAYER(ssm_mamba);
using mamba2 = LAYER(ssm_mamba2);
using mamba3 = LAYER(ssm_mamba3);
using rglru = LAYER(ssm_rglru);
using s5 = LAYER(ssm_s5);
#undef LAYER

// Streams a chirp sample by sample, forks the stream in the middle and compares with the whole at once.
template <class Layer> static bool stream(const char *name, const Layer &model, std::size_t channels)
{
    const std::size_t len = 600, middle = 250;
    reals x(len * channels);
    for (std::size_t t = 0; t < len; ++t)
        for (std::size_t c = 0; c < channels; ++c)
            x[t * channels + c] = static_cast<ssm_real>(std::sin(1e-4 * double(t * t) + double(c)));

    reals whole_state = model.start(), state = model.start(), saved, streamed = x, again = x;
    const reals whole = model.forward(whole_state, x);
    std::vector<unsigned char> work(model.sizes(1, 1).work);
    for (std::size_t t = 0; t < len; ++t) {
        if (t == middle) saved = state;
        model.step(state, &streamed[t * channels], work);
    }
    for (std::size_t t = middle; t < len; ++t) model.step(saved, &again[t * channels], work);

    const std::size_t from = middle * channels;
    const bool same = streamed == whole && state == whole_state && saved == state &&
                      std::equal(again.data() + from, again.data() + again.size(), whole.data() + from);
    std::printf("%-6s %zu steps, %zu bytes of state, %zu of workspace: streamed, forked and at once %s\n", name, len,
                state.size() * sizeof(ssm_real), work.size(), same ? "the same bits" : "DIFFER");
    return same && whole != x;
}

int main()
{
    ssm_mamba_config small{}; // {} and not {0}, which C++ compilers warn of
    ssm_mamba2_config heads{};
    ssm_mamba3_config ranks{};
    ssm_rglru_config gated{};
    ssm_s5_config diagonal{};
    small.d_model = heads.d_model = ranks.d_model = gated.d_model = diagonal.d_model = 16;
    gated.num_heads = 2;
    heads.headdim = ranks.headdim = 8;
    heads.d_state = ranks.d_state = diagonal.d_state = 32;
    ranks.mimo_rank = 4;
    const bool first = stream("mamba", mamba(small, 1), small.d_model);
    const bool second = stream("mamba2", mamba2(heads, 1), heads.d_model);
    const bool third = stream("mamba3", mamba3(ranks, 1), ranks.d_model);
    const bool fourth = stream("rglru", rglru(gated, 1), gated.d_model);
    const bool fifth = stream("s5", s5(diagonal, 1), diagonal.d_model);
    return first && second && third && fourth && fifth ? 0 : 1;
}
