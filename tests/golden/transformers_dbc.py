"""transformers_dbc.h: golden vectors of FalconMambaMixer and JambaMambaMixer (transformers 5.23.0), run on the CPU in
float64.

    pip install transformers==5.23.0
    python tests/golden/transformers_dbc.py

Needs torch. No --peers: an installed package. Only float32 casts of the modelling files are changed (to
float64).
"""

import golden
from golden import Header, Rng, check, grads, leaf

import torch

FALCON = "transformers.models.falcon_mamba.modeling_falcon_mamba"
JAMBA = "transformers.models.jamba.modeling_jamba"
golden.import_in_double(FALCON, JAMBA)
import transformers                                                          # noqa: E402
from transformers import FalconMambaConfig, JambaConfig                      # noqa: E402
from transformers.models.falcon_mamba import modeling_falcon_mamba           # noqa: E402
from transformers.models.jamba import modeling_jamba                         # noqa: E402

SEED = 20241130
MODEL, INNER, STATE, RANK, CONV = 6, 12, 5, 3, 4
TEXT = """
Mamba-1 with an RMSNorm each of dt, B and C between x_proj and dt_proj: in FalconMamba without weights
(eps mixer_rms_eps), in Jamba with them (eps rms_norm_eps). A = -exp(A_log), Euler's step for B.

Gradients are of loss = sum(y*dy), by autograd in float64.
"""


def silu(x):
    return x / (1 + torch.exp(-x))


def rms(x, weight, eps):
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight


def own_mixer(x, p, eps):
    """The block written plainly, through this folder's selective scan."""
    batch, length, _ = x.shape
    u, z = (x @ p["in_proj.weight"].T).chunk(2, -1)
    w = p["conv1d.weight"][:, 0]
    padded = torch.cat([torch.zeros(batch, CONV - 1, INNER, dtype=x.dtype), u], 1)
    u = silu(p["conv1d.bias"] + sum(padded[:, j:j + length] * w[:, j] for j in range(CONV)))
    dt, B, C = (rms(v, p.get(name + "_layernorm.weight"), eps) for name, v in
                zip(("dt", "b", "c"), (u @ p["x_proj.weight"].T).split([RANK, STATE, STATE], -1)))
    delta = torch.log1p(torch.exp(dt @ p["dt_proj.weight"].T + p["dt_proj.bias"]))
    y, last = golden.selective_scan(u.transpose(1, 2), delta.transpose(1, 2), -torch.exp(p["A_log"]),
                                    B.transpose(1, 2)[:, None], C.transpose(1, 2)[:, None], D=p["D"])
    return (y.transpose(1, 2) * silu(z)) @ p["out_proj.weight"].T, last


def mixer_case(h, rng, name, note, mixer, eps):
    batch, length = 2, 8
    m = mixer.double().eval()
    rng.fill(m)
    p = dict(m.named_parameters())
    h.case(name, note, batch=batch, len=length, d_model=MODEL, d_inner=INNER, d_state=STATE, dt_rank=RANK, d_conv=CONV)
    x, dy = leaf(rng.normal(batch, length, MODEL)), rng.normal(batch, length, MODEL)
    y = m(x)
    y = y[0] if isinstance(y, tuple) else y
    own, last = own_mixer(x, p, eps)
    check(name + " y", y, own, 1e-13)
    g = grads((y * dy).sum(), {"x": x, **p})
    own_g = grads((own * dy).sum(), {"x": x, **p})
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], 1e-12)
    h.input("x", x, "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    h.parameters(m)
    h.output("y", y, "(B,L,M)", "output")
    h.output("state", last, "(B,E,N)", "state after the last step")
    for k, v in g.items():
        h.output("grad_" + k, v, "(B,L,M)" if k == "x" else "", f"d loss / d {k}")


def main():
    assert transformers.__version__ == "5.23.0", transformers.__version__
    assert golden.changed_casts(FALCON) > 0 and golden.changed_casts(JAMBA) > 0
    h = Header("transformers_dbc", "transformers 5.23.0 (PyPI), FalconMambaMixer and JambaMambaMixer", SEED, TEXT,
               "python tests/golden/transformers_dbc.py")
    rng = Rng(SEED)
    falcon = FalconMambaConfig(hidden_size=MODEL, state_size=STATE, intermediate_size=INNER, expand=INNER // MODEL,
                               time_step_rank=RANK, conv_kernel=CONV, num_hidden_layers=1, vocab_size=4,
                               mixer_rms_eps=2.0 ** -10)
    mixer_case(h, rng, "falcon", "norms without weights, eps 2^-10",
               modeling_falcon_mamba.FalconMambaMixer(falcon, 0, initialize_mixer_weights=False), 2.0 ** -10)
    jamba = JambaConfig(hidden_size=MODEL, mamba_d_state=STATE, mamba_d_conv=CONV, mamba_expand=INNER // MODEL,
                        mamba_dt_rank=RANK, rms_norm_eps=2.0 ** -8, num_hidden_layers=1, vocab_size=4,
                        use_mamba_kernels=False)
    mixer_case(h, rng, "jamba", "norms with weights, eps 2^-8",
               modeling_jamba.JambaMambaMixer(jamba, layer_idx=0), 2.0 ** -8)
    h.write()


if __name__ == "__main__":
    main()
