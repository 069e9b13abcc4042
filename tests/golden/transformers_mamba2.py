"""transformers_mamba2.h: golden vectors of Mamba2Mixer (transformers 5.24.0), run on the CPU in float64.

    pip install transformers==5.24.0
    python tests/golden/transformers_mamba2.py

Needs torch. No --peers: an installed package. Only float32 casts of the modelling file are changed (to
float64).
"""

import golden
from golden import Header, Rng, check, grads, leaf

import torch

golden.import_in_double("transformers.models.mamba2.modeling_mamba2")
import transformers                                                          # noqa: E402
from transformers import Mamba2Config                                        # noqa: E402
from transformers.cache_utils import DynamicCache                            # noqa: E402
from transformers.models.mamba2 import modeling_mamba2                       # noqa: E402

SEED = 20241129
TEXT = """
in_proj gives [z | x | B | C | dt]; causal conv1d with bias and SiLU over [x | B | C]; delta =
softplus(dt + dt_bias), clamped to time_step_limit, one for each head; A = -exp(A_log), one for each head;
h = exp(delta A) h + delta x B, y = C h + D x; y silu(z) is normalised over each group's channels
(RMSNorm, eps 1e-5) and multiplied by norm.weight; out_proj.

Gradients are of loss = sum(y*dy), by autograd in float64.

The cached step of the source ignores time_step_limit; the limited case has no step.
"""


def silu(x):
    return x / (1 + torch.exp(-x))


def own_mixer(x, p, heads, groups, n, limit, eps=1e-5):
    """Mamba-2 written plainly, through this folder's selective scan: one channel after the other."""
    batch, length, _ = x.shape
    e = p["norm.weight"].shape[0]
    conv_dim = e + 2 * groups * n
    zxbcdt = x @ p["in_proj.weight"].T
    z, xbc, dt = zxbcdt.split([e, conv_dim, heads], -1)
    w = p["conv1d.weight"][:, 0]
    k = w.shape[1]
    padded = torch.cat([torch.zeros(batch, k - 1, conv_dim, dtype=x.dtype), xbc], 1)
    conv = p["conv1d.bias"] + sum(padded[:, j:j + length] * w[:, j] for j in range(k))
    u, B, C = silu(conv).split([e, groups * n, groups * n], -1)
    delta = torch.log1p(torch.exp(dt + p["dt_bias"])).clamp(*limit)
    each = e // heads
    A = -torch.exp(p["A_log"]).repeat_interleave(each)[:, None].expand(e, n)

    def grouped(m):
        return m.reshape(batch, length, groups, n).permute(0, 2, 3, 1)

    y, last = golden.selective_scan(u.transpose(1, 2), delta.repeat_interleave(each, -1).transpose(1, 2), A,
                                    grouped(B), grouped(C), D=p["D"].repeat_interleave(each))
    y = (y.transpose(1, 2) * silu(z)).reshape(batch, length, groups, e // groups)
    y = y / torch.sqrt((y * y).mean(-1, keepdim=True) + eps)
    return (y.reshape(batch, length, e) * p["norm.weight"]) @ p["out_proj.weight"].T, last


def fill(rng, m):
    a_log, m.A_log = m.A_log, None # rng.fill expects one row for each channel
    rng.fill(m)
    m.A_log = a_log
    with torch.no_grad():
        m.A_log.copy_(rng.normal(*m.A_log.shape, scale=0.5))
        m.dt_bias.copy_(rng.uniform(-2.0, 0.5, *m.dt_bias.shape))


def mixer_case(h, rng, name, note, heads, head_dim, groups, n, length, limit=(0.0, float("inf")), steps=True):
    batch, model = 2, 8
    config = Mamba2Config(hidden_size=model, state_size=n, num_heads=heads, head_dim=head_dim, n_groups=groups,
                          expand=heads * head_dim // model, conv_kernel=4, chunk_size=4, num_hidden_layers=1,
                          time_step_limit=limit, vocab_size=4)
    m = modeling_mamba2.Mamba2Mixer(config, layer_idx=0).double().train()
    fill(rng, m)
    p = dict(m.named_parameters())
    e = heads * head_dim
    h.case(name, note, batch=batch, len=length, d_model=model, d_inner=e, heads=heads, headdim=head_dim,
           groups=groups, d_state=n, d_conv=4)
    x, dy = leaf(rng.normal(batch, length, model)), rng.normal(batch, length, model)
    y = m(x)
    own, last = own_mixer(x, p, heads, groups, n, limit)
    check(name + " y", y, own, 1e-13)
    g = grads((y * dy).sum(), {"x": x, **p})
    own_g = grads((own * dy).sum(), {"x": x, **p})
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], 1e-12)
    if steps:
        with torch.no_grad():
            cache = DynamicCache(config=config)
            first = m(x[:, :3], cache=cache)
            rest = [m(x[:, t:t + 1], cache=cache) for t in range(3, length)]
            check(name + " steps", torch.cat([first] + rest, 1), y, 1e-13)
            check(name + " state", cache.get_recurrent_state(0, state_idx=0).reshape(last.shape), last, 1e-13)
    h.input("x", x, "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    h.parameters(m)
    h.output("y", y, "(B,L,M)", "output")
    h.output("state", last, "(B,E,N)", "state after the last step")
    for k, v in g.items():
        h.output("grad_" + k, v, "(B,L,M)" if k == "x" else "", f"d loss / d {k}")


def main():
    assert transformers.__version__ == "5.24.0", transformers.__version__
    assert golden.changed_casts(modeling_mamba2.__name__) > 0
    h = Header("transformers_mamba2", "transformers 5.24.0 (PyPI), Mamba2Mixer", SEED, TEXT,
               "python tests/golden/transformers_mamba2.py")
    rng = Rng(SEED)
    mixer_case(h, rng, "block", "one group; forward, prefill and cached steps asserted equal", 4, 4, 1, 6, 9)
    mixer_case(h, rng, "groups", "two groups of B and C, the norm over each; heads of 3 channels", 8, 3, 2, 5, 7)
    mixer_case(h, rng, "limited", "delta clamped to [0.2, 0.6]", 2, 8, 1, 4, 6, (0.2, 0.6), steps=False)
    h.write()


if __name__ == "__main__":
    main()
