"""tracetorch.h: golden vectors of tracetorch 0.19.2, tracetorch.ssm.S6 and Mamba, run in float64.

    pip install tracetorch==0.19.2        # later versions have no `ssm`
    python tests/golden/tracetorch.py

The layers take one time step per call and hold their state; the sequence is fed step by step and
gradients flow through all steps. Needs torch. No --peers: an installed package.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import tracetorch.ssm
import torch

SEED = 20240103
TEXT = """
x, y and dy are (len, batch, dim) = (T,B,D): the layers are called once per time step with (B,D).
Gradients are of loss = sum over all steps of sum(y*dy) + sum(last*dlast), back through every
step.

Bbar is exact zero-order hold, written (Abar - 1)/(A + 1e-12)*B in the source; in float64 the
1e-12 moves results by about 1e-12 relative, so the vectors are compared with the clean formula to
3e-11. Compare no tighter than that.

S6: x_proj.weight (R+2N, D) has its rows in the order [dt | B | C]; delta = softplus(dt_proj(dt));
the default dt_rank is max(1, floor(D/16)).

Mamba: in_proj.weight (2D, D) gives [main | gate] (expand = 1); conv_weights (D,K), the last
column multiplying the newest input; SiLU; ssm_proj.weight gives [dt | B | C]; y = x +
out_proj((scan + D*u) * SiLU(gate)): the residual is inside. With conv_kernel 1 there are no
convolution parameters, and SiLU stays.
"""
TOL = 3e-11


def run(h, rng, name, note, layer, length, batch, dim, n, own, states, **dims):
    rng.fill(layer)
    h.case(name, note, len=length, batch=batch, dim=dim, state=n, **dims)
    x = leaf(rng.normal(length, batch, dim))
    dy = rng.normal(length, batch, dim)
    dlast = rng.normal(batch, dim, n)
    layer.zero_states()
    y = torch.stack([layer(x[t]) for t in range(length)])
    last = getattr(layer, states[0])
    p = dict(layer.named_parameters())
    own_y, own_last = own(x.transpose(0, 1), p)
    own_y = own_y.transpose(0, 1)
    check(name + " y", y, own_y, TOL)
    check(name + " last", last, own_last, TOL)
    leaves = {"x": x, **p}
    g = grads((y * dy).sum() + (last * dlast).sum(), leaves)
    own_g = grads((own_y * dy).sum() + (own_last * dlast).sum(), leaves)
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], TOL)
    h.input("x", x, "(T,B,D)", "input of each step")
    h.input("dy", dy, "(T,B,D)", "d loss / d y")
    h.input("dlast", dlast, "(B,D,N)", "d loss / d last state")
    h.parameters(layer)
    h.output("y", y, "(T,B,D)", "output of each step")
    h.output("last", last, "(B,D,N)", f"`{states[0]}` after the last step")
    for extra in states[1:]:
        h.output(extra, getattr(layer, extra), "(B,D,K)", f"`{extra}` after the last step: the"
                 " last K inputs of the convolution, the current one included, oldest first")
    for k, v in g.items():
        h.output("grad_" + k, v, "(T,B,D)" if k == "x" else "", f"d loss / d {k}")


def main():
    h = Header("tracetorch", "tracetorch 0.19.2 (PyPI), tracetorch.ssm.S6 and Mamba", SEED, TEXT,
               "python tests/golden/tracetorch.py")
    rng = Rng(SEED)

    def own_s6(x, p):
        n = p["A_log"].shape[1]
        rank = p["dt_proj.weight"].shape[1]
        dbc = x @ p["x_proj.weight"].T
        y, last = golden.selective_scan(
            x.transpose(1, 2), (dbc[..., :rank] @ p["dt_proj.weight"].T).transpose(1, 2),
            -torch.exp(p["A_log"]), dbc[..., rank:rank + n].transpose(1, 2),
            dbc[..., rank + n:].transpose(1, 2), p["D"], bias=p["dt_proj.bias"], softplus=True,
            kind="zoh")
        return y.transpose(1, 2), last

    def own_mamba(x, p):
        y, last = golden.mamba_block(
            x, p["in_proj.weight"], p.get("conv_weights"), p.get("conv_bias"),
            p["ssm_proj.weight"], p["dt_proj.weight"], p["dt_proj.bias"], p["A_log"], p["D"],
            p["out_proj.weight"], kind="zoh")
        return y + x, last

    ssm = tracetorch.ssm
    run(h, rng, "s6", "S6(5, d_state=3, dt_rank=2)", ssm.S6(5, d_state=3, dt_rank=2).double(),
        7, 2, 5, 3, own_s6, ["state"], dt_rank=2)
    run(h, rng, "mamba", "Mamba(5, d_state=3, conv_kernel=4), dt_rank default = 1",
        ssm.Mamba(5, d_state=3, conv_kernel=4).double(), 7, 2, 5, 3, own_mamba,
        ["ssm_state", "conv_buffer"], dt_rank=1, conv=4)
    run(h, rng, "mamba_k1", "Mamba(5, d_state=3, dt_rank=2, conv_kernel=1): no convolution",
        ssm.Mamba(5, d_state=3, dt_rank=2, conv_kernel=1).double(), 7, 2, 5, 3, own_mamba,
        ["ssm_state"], dt_rank=2, conv=1)
    h.write()


if __name__ == "__main__":
    main()
