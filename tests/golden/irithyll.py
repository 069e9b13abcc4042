"""irithyll.h: golden vectors of irithyll_core's SelectiveSSM, discretize and DiagonalSSM, from
their formulas (irithyll-core/src/ssm/{selective,init,discretize,diagonal,projection}.rs).

The source is Rust and is not run here. This script follows its published formulas, loop by loop, in
Python floats (double). `math` in place of `libm` may differ in the last bit.

    python tests/golden/irithyll.py

Needs torch only because golden.py does.
"""

import golden
from golden import Header, Rng, check

import math

import torch

SEED = 20240107
TEXT = """
Computed from the published formulas (the source is Rust), in double.

Per step, x of D channels: delta = softplus(w_delta.x + b_delta), one scalar for all channels; B =
w_b x and C = w_c x, both of N values, w_b and w_c (N,D); a_n = -exp(log_a_n), shared by all
channels; Abar = exp(delta*a), Bbar = (Abar - 1)/a * B (delta*B if |a| < 1e-12); h[d,n] = Abar
h[d,n] + Bbar x_d; y_d = sum_n C_n h[d,n] + d_skip_d x_d. No gradients in the source.

The state is (D,N), index d*N + n, as in irithyll-core up to 0.9; irithyll-core 1.0 keeps it as
(N,D), index n*D + d. Initial A: 0.9.1 and earlier mamba_init, log_a_n = ln(n+1); later, 1.0
included, s4d_inv_real, log_a_n = ln(0.5 + n/N).

softplus: x > 20 -> x; x < -20 -> exp(x); else ln(1 + exp(x)).
"""


def mamba_init(n):
    return [math.log(i + 1) for i in range(n)]


def s4d_inv_real(n):
    return [math.log(0.5 + i / n) for i in range(n)]


def softplus(x):
    if x > 20.0:
        return x
    return math.exp(x) if x < -20.0 else math.log(1.0 + math.exp(x))


def zoh(a, delta):
    a_bar = math.exp(delta * a)
    return a_bar, delta if abs(a) < 1e-12 else (a_bar - 1.0) / a


def bilinear(a, delta):
    half = 0.5 * delta * a
    return (1.0 + half) / (1.0 - half), delta / (1.0 - half)


class Selective:
    def __init__(self, log_a, w_delta, b_delta, w_b, w_c, d_skip):
        self.log_a, self.w_delta, self.b_delta = log_a, w_delta, b_delta
        self.w_b, self.w_c, self.d_skip = w_b, w_c, d_skip
        self.dim, self.n = len(d_skip), len(log_a)
        self.h = [0.0] * (self.dim * self.n)

    def forward(self, x):
        delta = softplus(sum(w * v for w, v in zip(self.w_delta, x)) + self.b_delta)
        b = [sum(w * v for w, v in zip(row, x)) for row in self.w_b]
        c = [sum(w * v for w, v in zip(row, x)) for row in self.w_c]
        out = []
        for d in range(self.dim):
            y = 0.0
            for n in range(self.n):
                a_bar, factor = zoh(-math.exp(self.log_a[n]), delta)
                i = d * self.n + n
                self.h[i] = a_bar * self.h[i] + factor * b[n] * x[d]
                y += c[n] * self.h[i]
            out.append(y + self.d_skip[d] * x[d])
        return out


class Xorshift64:
    def __init__(self, seed):
        self.state = seed

    def next_f64(self):
        mask = (1 << 64) - 1
        x = self.state
        x ^= (x << 13) & mask
        x ^= x >> 7
        x ^= (x << 17) & mask
        self.state = x
        return (x >> 11) / float(1 << 53)

    def next_normal(self):
        u1 = self.next_f64()
        while not u1 > 0.0:
            u1 = self.next_f64()
        u2 = self.next_f64()
        return math.sqrt(-2.0 * math.log(u1)) * math.cos(2.0 * math.pi * u2)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def run(h, name, model, x):
    """Feed x (T,D); check against the plain scan; write outputs and state."""
    rows = x.tolist()
    y = tensor([model.forward(row) for row in rows])
    delta = torch.nn.functional.softplus(x @ tensor(model.w_delta) + model.b_delta)
    own, last = golden.selective_scan(
        x.T[None], delta.repeat(model.dim, 1)[None],
        -torch.exp(tensor(model.log_a)).repeat(model.dim, 1), (x @ tensor(model.w_b).T).T[None],
        (x @ tensor(model.w_c).T).T[None], tensor(model.d_skip), kind="zoh")
    check(name + " y", y, own[0].T, 1e-13)
    state = tensor(model.h).reshape(model.dim, model.n)
    check(name + " state", state, last[0], 1e-13)
    h.output("y", y, "(T,D)", "output of each step")
    h.output("state", state, "(D,N)", "state after the last step, index d*N + n")


def main():
    h = Header("irithyll", "irithyll-core (ssm module, 0.9 and 1.0), from its formulas", SEED, TEXT,
               "python tests/golden/irithyll.py")
    rng = Rng(SEED)
    dim, n, steps = 4, 5, 6

    h.case("weights", "weights and input of the cases mamba and s4d_inv", dim=dim, state=n,
           len=steps)
    w_delta, b_delta = rng.normal(dim, scale=0.5), rng.normal(1, scale=0.5)
    w_b, w_c = rng.normal(n, dim, scale=0.5), rng.normal(n, dim, scale=0.5)
    d_skip, x = rng.normal(dim, scale=0.3, mean=1.0), rng.normal(steps, dim)
    h.input("w_delta", w_delta, "(D)", "step projection")
    h.input("b_delta", b_delta, "(1)", "step bias")
    h.input("w_b", w_b, "(N,D)", "B projection")
    h.input("w_c", w_c, "(N,D)", "C projection")
    h.input("d_skip", d_skip, "(D)", "skip")
    h.input("x", x, "(T,D)", "input of each step")
    for name, init in (("mamba", mamba_init), ("s4d_inv", s4d_inv_real)):
        h.case(name, "the weights above with log_a in double from "
               + {"mamba": "mamba_init, log_a_n = ln(n+1)",
                  "s4d_inv": "s4d_inv_real, log_a_n = ln(0.5 + n/N)"}[name])
        log_a = init(n)
        h.output("log_a", tensor(log_a), "(N)", "log(-A)")
        run(h, name, Selective(log_a, w_delta.tolist(), float(b_delta), w_b.tolist(), w_c.tolist(),
                               d_skip.tolist()), x)

    for name, init in (("new_mamba", mamba_init), ("new_s4d_inv", s4d_inv_real)):
        h.case(name, "SelectiveSSM::new(4, 5, 42) as published: xorshift64(42) and Box-Muller,"
               " scale 0.1, drawn in the order w_delta, w_b, w_c; b_delta = 0, d_skip = 1; weights"
               " in double; input of the case weights" + (
                   "" if name == "new_mamba" else "; same weights as new_mamba, other log_a"))
        draw = Xorshift64(42)
        wd = [draw.next_normal() * 0.1 for _ in range(dim)]
        wb = [[draw.next_normal() * 0.1 for _ in range(dim)] for _ in range(n)]
        wc = [[draw.next_normal() * 0.1 for _ in range(dim)] for _ in range(n)]
        if name == "new_mamba":
            h.output("w_delta", tensor(wd), "(D)", "step projection")
            h.output("w_b", tensor(wb), "(N,D)", "B projection")
            h.output("w_c", tensor(wc), "(N,D)", "C projection")
        run(h, name, Selective(init(n), wd, 0.0, wb, wc, [1.0] * dim), x)

    h.case("discretize", "zoh_discretize and bilinear_discretize for pairs (a, delta); with |a| <"
           " 1e-12 the zoh factor is delta. zoh_b is exact (expm1); zoh_b_published is"
           " (exp(delta*a) - 1)/a as the source writes it, which cancels for small delta*a",
           count=9)
    pairs = [(-1.0, 0.5), (-3.25, 0.125), (-0.5, 2.0), (-16.0, 0.0625), (-0.0009765625, 0.25),
             (2.0 ** -20, 0.5), (-2.0 ** -45, 0.75), (0.0, 0.5), (-40.0, 25.0)]
    a, delta = tensor([p[0] for p in pairs]), tensor([p[1] for p in pairs])
    h.input("a", a, "(9)", "a")
    h.input("delta", delta, "(9)", "delta")
    h.output("zoh_a", tensor([zoh(*p)[0] for p in pairs]), "(9)", "Abar, zoh")
    h.output("zoh_b", tensor([math.expm1(p[0] * p[1]) / p[0] if p[0] else p[1] for p in pairs]),
             "(9)", "factor of B, zoh, exact")
    h.output("zoh_b_published", tensor([zoh(*p)[1] for p in pairs]), "(9)",
             "factor of B, zoh, as the source computes it")
    h.output("bilinear_a", tensor([bilinear(*p)[0] for p in pairs]), "(9)", "Abar, bilinear")
    h.output("bilinear_b", tensor([bilinear(*p)[1] for p in pairs]), "(9)", "factor of B, bilinear")

    h.case("diagonal", "DiagonalSSM::with_params(5, 0.125, b, c, d_skip): scalar in and out,"
           " log_a = ln(n+1), zoh with the fixed delta", state=n, len=8)
    b, c, skip, u = rng.normal(n), rng.normal(n), rng.normal(1), rng.normal(8)
    step, log_a = 0.125, mamba_init(n)
    hs, ys = [0.0] * n, []
    for v in u.tolist():
        for i in range(n):
            a_bar, factor = zoh(-math.exp(log_a[i]), step)
            hs[i] = a_bar * hs[i] + factor * float(b[i]) * v
        ys.append(sum(float(c[i]) * hs[i] for i in range(n)) + float(skip) * v)
    own, last = golden.selective_scan(
        u[None, None], torch.full((1, 1, 8), step, dtype=torch.float64),
        -torch.exp(tensor(log_a))[None], b[None], c[None], skip, kind="zoh")
    check("diagonal y", tensor(ys), own[0, 0], 1e-13)
    check("diagonal state", tensor(hs), last[0, 0], 1e-13)
    h.input("delta", tensor([step]), "(1)", "fixed step size")
    h.input("b", b, "(N)", "B")
    h.input("c", c, "(N)", "C")
    h.input("d_skip", skip, "(1)", "skip")
    h.input("x", u, "(T)", "input of each step")
    h.output("y", tensor(ys), "(T)", "output of each step")
    h.output("state", tensor(hs), "(N)", "state after the last step")
    h.write()


if __name__ == "__main__":
    main()
