"""tracetorch_s4_s5.h: golden vectors of tracetorch 0.19.2, tracetorch.ssm.S4 and S5 (both real),
run in float64.

    pip install tracetorch==0.19.2        # later versions have no `ssm`
    python tests/golden/tracetorch_s4_s5.py

The layers take one time step per call and hold their state; the sequence is fed step by step and
gradients flow through all steps. Needs torch. No --peers: an installed package.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import tracetorch.ssm
import torch

SEED = 20240109
TEXT = """
x, y and dy are (len, batch, dim) = (T,B,D): the layers are called once per time step with (B,D).
Gradients are of loss = sum over all steps of sum(y*dy) + sum(last*dlast), back through every step.

Both are real and diagonal, A = -exp(A_log), Bbar by exact zero-order hold, (exp(delta A) - 1)/A.
S4: a state of N per channel; A_log, B, C (D,N), delta = exp(log_dt) per channel, h = Abar h + Bbar
B x, y = sum C h + D x. S5: one state of N for all channels; A_log (N), B (D,N), C (N,D), one delta
= exp(log_dt) (1); h = Abar h + (Abar - 1)/A * (x B), y = h C + D x.

log_dt is given smaller values here than the source's standard normal ones.
"""


def own_s4(x, p):
    d, n = p["A_log"].shape
    y, last = golden.selective_scan(
        x.transpose(1, 2), torch.exp(p["log_dt"])[None, :, None].expand(x.shape[0], d, x.shape[1]),
        -torch.exp(p["A_log"]), p["B"], p["C"], p["D"], kind="zoh")
    return y.transpose(1, 2), last


def own_s5(x, p):
    a = -torch.exp(p["A_log"])
    dt = torch.exp(p["log_dt"])
    ys, last = [], []
    for row in x:
        h = torch.zeros_like(a)
        for value in row:
            v = sum(value[d] * p["B"][d] for d in range(value.shape[0]))
            h = torch.exp(dt * a) * h + torch.expm1(dt * a) / a * v
            ys.append(sum(h[n] * p["C"][n] for n in range(h.shape[0])) + p["D"] * value)
        last.append(h)
    return torch.stack(ys).reshape(x.shape), torch.stack(last)


def run(h, rng, name, note, layer, own, state):
    length, batch, dim, n = 9, 2, 3, 4
    with torch.no_grad():
        for key, p in layer.named_parameters():
            if key == "A_log":
                value = rng.a_log(p.numel() // n, n).reshape(p.shape)
            elif key == "log_dt":
                value = rng.uniform(-2.5, 0.0, *p.shape)
            else:
                value = rng.normal(*p.shape)
            p.copy_(value)
    h.case(name, note, len=length, batch=batch, dim=dim, state=n)
    x = leaf(rng.normal(length, batch, dim))
    dy = rng.normal(length, batch, dim)
    dlast = rng.normal(batch, dim, n) if name == "s4" else rng.normal(batch, n)
    layer.zero_states()
    y = torch.stack([layer(x[t]) for t in range(length)])
    last = getattr(layer, state)
    p = dict(layer.named_parameters())
    own_y, own_last = own(x.transpose(0, 1), p)
    own_y = own_y.transpose(0, 1)
    check(name + " y", y, own_y)
    check(name + " last", last, own_last)
    leaves = {"x": x, **p}
    g = grads((y * dy).sum() + (last * dlast).sum(), leaves)
    own_g = grads((own_y * dy).sum() + (own_last * dlast).sum(), leaves)
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], 1e-13)
    where = "(B,D,N)" if name == "s4" else "(B,N)"
    h.input("x", x, "(T,B,D)", "input of each step")
    h.input("dy", dy, "(T,B,D)", "d loss / d y")
    h.input("dlast", dlast, where, "d loss / d last state")
    h.parameters(layer)
    h.output("y", y, "(T,B,D)", "output of each step")
    h.output("last", last, where, f"`{state}` after the last step")
    for k, v in g.items():
        h.output("grad_" + k, v, "(T,B,D)" if k == "x" else "", f"d loss / d {k}")


def main():
    h = Header("tracetorch_s4_s5", "tracetorch 0.19.2 (PyPI), tracetorch.ssm.S4 and S5", SEED, TEXT,
               "python tests/golden/tracetorch_s4_s5.py")
    rng = Rng(SEED)
    ssm = tracetorch.ssm
    run(h, rng, "s4", "S4(3, d_state=4): real diagonal, a state per channel",
        ssm.S4(3, d_state=4).double(), own_s4, "state")
    run(h, rng, "s5", "S5(3, d_state=4): real, one state for all channels",
        ssm.S5(3, d_state=4).double(), own_s5, "global_state")
    h.write()


if __name__ == "__main__":
    main()
