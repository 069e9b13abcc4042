"""zeta.h: golden vectors of zetascale 2.8.8, zeta.nn.modules.ssm.SSM(pscan=True), run in float64.

    pip download --no-deps zetascale==2.8.8   # unpack the wheel in DIR/zetascale-2.8.8
    python tests/golden/zeta.py --peers DIR

Needs torch. The package's __init__ files are not run.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import importlib
import os

import torch

SEED = 20240102
TEXT = """
x, y and dy are (batch, len, dim) = (B,L,D). deltaBC_layer.weight is (R+2N, D), its rows in the
order [dt | B | C], no bias; delta = softplus(dt_proj_layer(dt)); A = -exp(A_log); Abar =
exp(delta*A), Bbar = delta*B; y = C.h + D*x. No convolution, gate or residual.

Gradients are of loss = sum(y*dy); the scan's is the package's own backward pass. ssm_long has
small steps (5 taken off dt_proj_layer.bias), so that its states live through many of them.
"""


def main():
    folder = golden.peers_folder("zetascale-2.8.8", r"zetascale-.*")
    for name in ("zeta", "zeta.nn", "zeta.nn.modules"):
        golden.bare_package(name, os.path.join(folder, *name.split(".")))
    golden.import_in_double("zeta.nn.modules.ssm")
    ssm = importlib.import_module("zeta.nn.modules.ssm")
    assert golden.changed_casts("zeta.nn.modules.ssm") > 0

    h = Header("zeta", "zetascale 2.8.8 (PyPI wheel), zeta.nn.modules.ssm.SSM, pscan=True", SEED,
               TEXT)
    rng = Rng(SEED)
    for name, batch, length, dim, n, rank in (("ssm", 2, 7, 5, 3, 2), ("ssm_pow2", 3, 8, 4, 2, 1),
                                              ("ssm_long", 1, 200, 2, 2, 1)):
        m = ssm.SSM(in_features=dim, dt_rank=rank, dim_inner=dim, d_state=n).double()
        rng.fill(m)
        if name == "ssm_long":  # small steps: a state outlives several chunks of a parallel scan
            with torch.no_grad():
                m.dt_proj_layer.bias -= 5
        h.case(name, f"SSM(in_features={dim}, dt_rank={rank}, dim_inner={dim}, d_state={n})",
               batch=batch, len=length, dim=dim, state=n, dt_rank=rank)
        x, dy = leaf(rng.normal(batch, length, dim)), rng.normal(batch, length, dim)
        y = m(x, pscan=True)
        p = dict(m.named_parameters())
        dbc = x @ p["deltaBC_layer.weight"].T
        dt = dbc[..., :rank] @ p["dt_proj_layer.weight"].T
        own, last = golden.selective_scan(
            x.transpose(1, 2), dt.transpose(1, 2), -torch.exp(p["A_log"]),
            dbc[..., rank:rank + n].transpose(1, 2), dbc[..., rank + n:].transpose(1, 2), p["D"],
            bias=p["dt_proj_layer.bias"], softplus=True)
        own = own.transpose(1, 2)
        check(name + " y", y, own)
        g = grads((y * dy).sum(), {"x": x, **p})
        own_g = grads((own * dy).sum(), {"x": x, **p})
        for k in g:
            check(f"{name} d{k}", g[k], own_g[k], 1e-13)
        h.input("x", x, "(B,L,D)", "input")
        h.input("dy", dy, "(B,L,D)", "d loss / d y")
        h.parameters(m)
        h.output("y", y, "(B,L,D)", "output")
        h.output("last", last, "(B,D,N)", "state after the last step (by this folder's own"
                 " recurrence: the module returns none)")
        for k, v in g.items():
            h.output("grad_" + k, v, "(B,L,D)" if k == "x" else "", f"d loss / d {k}")
    h.write()


if __name__ == "__main__":
    main()
