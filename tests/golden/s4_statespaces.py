"""s4_statespaces.h: golden vectors of state-spaces/s4 (models/s4/s4d.py, s4.py): S4D and S4
(diagonal plus low rank), from their formulas.

The source is not on PyPI and is not run here. This script follows its published formulas in
torch, float64 / complex128, with gradients by autograd. S4's kernel and gradients come from the
definition, the dense matrix recurrence C Abar^l Bbar; the source's own route (Cauchy sums,
Woodbury, C~) and its linear-time step are written again and must agree. S4D comes from kernel and
convolution and must agree with the dense recurrence. All gradients are also compared with central
differences.

    python tests/golden/s4_statespaces.py

Needs torch and numpy.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
from golden import Header, Rng
from golden_lti import close, grads, leaf, put_in, put_out

import math

import numpy as np
import torch

SEED = 20240113
LENGTHS = (1, 2, 7, 16, 33)
TEXT = """
Computed from the published formulas, float64, gradients by autograd.

N counts conjugate pairs (the source's d_state is 2N). u, y and dy are (batch, H, len) = (B,H,L).
A = -exp(log_a_real) + i a_imag (H,N), as in models/s4/s4d.py; the full kernel (s4.py) stores
-Im A, so its A_imag and that gradient have the other sign. delta = exp(log_dt) (H). B, C (H,N)
complex (the source stores them as (..,2), the same numbers), D (H). y = 2 Re sum_n C s + D u with
the new s; s = Abar s + Bbar u.

`kernel`: K_l = C Abar^l Bbar, l < 33, C plain; the kernel of length 1, 2, 7, 16 is its head.
S4D: zoh Bbar = (exp(delta A) - 1)/A B; bilinear Abar = (1 + delta A/2)/(1 - delta A/2), Bbar =
delta/(1 - delta A/2) B. The minimal S4D (s4d.py) has no B: B = 1.

S4: A = diag(Lambda) - P P^H over the 2N states (each array with its conjugate half appended),
bilinear: Abar = (I - delta A/2)^-1 (I + delta A/2), Bbar = (I - delta A/2)^-1 delta B.
`c_tilde_L` = the first N of (I - Abar^L)^T C, what the source stores in place of C. With it the
source's k = irfft(2/(1 + w) (r_BC - r_BQ r_PC/(1 + r_PQ))) is the kernel of length L, odd and
even, to 1e-12.

Every case starts from state0; `last` is the state after the last step. `y_zero` is the output
from the zero state. Outputs of the steps, one sample at a time, are y. Gradients are of loss =
sum(y*dy) + sum over (re, im) of last*dlast, state0 in place.

HiPPO-LegS arrays that depend on eigenvectors have each phase turned so that P_n = (V^H P)_n is real
and positive: then P and B = sqrt(2) P are real, and C = c V for a real row c of the dense system.
(The source leaves the phases to the solver and clips Im B to +-2.)
""" + lti.CONVENTION
LAYOUT = {"u": "(B,H,L)", "log_a_real": "(H,N)", "a_imag": "(H,N)", "p": "(H,N)", "b": "(H,N)",
          "c": "(H,N)", "d": "(H)", "log_dt": "(H)", "state0": "(B,H,N)"}
MEANING = {"u": "input", "log_a_real": "log of -Re A (S4: of -Re Lambda)",
           "a_imag": "Im A (S4: Im Lambda)", "p": "P, the low rank part", "b": "B", "c": "C, plain",
           "d": "D, skip", "log_dt": "log of the step", "state0": "state before the first step"}


def eigen(x):
    return torch.complex(-torch.exp(x["log_a_real"]), x["a_imag"])


# --------------------------------------------------------------------------------- S4D

def diagonal(x, kind):
    a, dt = eigen(x), torch.exp(x["log_dt"])[:, None]
    if kind == "zoh":
        abar = torch.exp(a * dt)
        return abar, (abar - 1) / a * x["b"]
    return (1 + a * dt / 2) / (1 - a * dt / 2), dt / (1 - a * dt / 2) * x["b"]


def s4d_kernel(x, kind, length):
    """The Vandermonde sum."""
    abar, bbar = diagonal(x, kind)
    powers = torch.exp(torch.log(abar)[:, :, None] * torch.arange(length))
    return 2 * torch.einsum("hn,hnl->hl", x["c"] * bbar, powers).real


def s4d(x, kind):
    """Kernel and convolution, state added to it, state after the sequence (forward_state)."""
    length = x["u"].shape[2]
    a, dt = eigen(x), torch.exp(x["log_dt"])[:, None]
    abar, bbar = diagonal(x, kind)
    k = s4d_kernel(x, kind, length)
    # the source's row of B for a state
    if kind == "zoh":
        row = a * torch.exp(a * dt) / (torch.exp(a * dt) - 1)
    else:
        row = (1 + a * dt / 2) / dt
    ys = []
    for s0 in x["state0"]:
        ys.append(s4d_kernel({**x, "b": s0 * row}, kind, length))
    y = torch.stack(ys)
    y = y + torch.stack([sum(k[:, t - j] * x["u"][:, :, j] for j in range(t + 1))
                         for t in range(length)], 2)
    powers = torch.exp(torch.log(abar)[:, :, None] * torch.arange(length - 1, -1, -1))
    last = abar ** length * x["state0"] + torch.einsum("hnl,hn,bhl->bhn", powers, bbar,
                                                       x["u"].to(bbar.dtype))
    return y + x["d"][:, None] * x["u"], last


def dense(x, kind):
    lam, dt = eigen(x), torch.exp(x["log_dt"])
    abar, bbar = [], []
    for k in range(lam.shape[0]):
        if kind == "zoh":
            one, gamma = lti.discretize("zoh", dt[k], lti.pair(lam[k]))
            one, two = torch.diag(one), gamma * lti.pair(x["b"][k])
        else:
            one, two = lti.dplr_dense(lam[k], x["p"][k] if "p" in x else None, x["b"][k], dt[k])
        abar.append(one)
        bbar.append(two)
    return abar, bbar


def s4(x, kind="bilinear"):
    return lti.dense_run(x["u"], *dense(x, kind), x["c"], x["d"], x["state0"])


# ---------------------------------------------------------------------------------- S4

def source_kernel(x, length, b=None):
    """The source's S4 kernel: C~, Cauchy sums at the roots of unity, Woodbury, inverse FFT."""
    abar, _ = dense(x, "bilinear")
    lam, dt = lti.pair(eigen(x)).detach().numpy(), np.exp(x["log_dt"].detach().numpy())
    p = lti.pair(x["p"]).detach().numpy()
    b = lti.pair(x["b"] if b is None else b).detach().numpy()
    c = lti.pair(x["c"]).detach().numpy()
    k, tilde = [], []
    for h in range(lam.shape[0]):
        power = np.linalg.matrix_power(abar[h].detach().numpy(), length)
        ct = c[h] - power.T @ c[h]
        tilde.append(ct)
        hat = []
        for j in range(length // 2 + 1):
            if 2 * j == length:  # w = -1, z = infinity: the limit
                hat.append(0.5 * dt[h] * np.sum(b[h] * ct))
                continue
            w = np.exp(-2j * np.pi * j / length)
            z = 2 * (1 - w) / (1 + w)

            def r(v):
                return np.sum(v * dt[h] / (z - dt[h] * lam[h]))
            q = p[h].conj()
            value = r(b[h] * ct) - r(b[h] * q) * r(p[h] * ct) / (1 + r(p[h] * q))
            hat.append(value * 2 / (1 + w))
        k.append(np.fft.irfft(np.array(hat), length))
    return lti.tensor(np.stack(k)), lti.tensor(np.stack(tilde)[:, :lam.shape[1] // 2])


def linear_steps(x):
    """The source's step in O(N), on one of each pair."""
    lam, dt, p, b, c = eigen(x), torch.exp(x["log_dt"])[:, None], x["p"], x["b"], x["c"]
    q = p.conj()
    d, e = 1 / (2 / dt - lam), 2 / dt + lam
    r = q * d / (1 + 2 * (q * d * p).sum(-1, keepdim=True).real)
    s, ys = x["state0"], []
    for t in range(x["u"].shape[2]):
        u = x["u"][:, :, t]
        w = e * s - p * 2 * (q * s).sum(-1, keepdim=True).real + 2 * b * u[..., None]
        s = d * (w - p * 2 * (r * w).sum(-1, keepdim=True).real)
        ys.append(2 * (c * s).sum(-1).real + x["d"] * u)
    return torch.stack(ys, 2), s


def low_rank_checks(name, x, k):
    tilde = {}
    for length in LENGTHS:
        own, tilde[length] = source_kernel(x, length)
        close(f"{name} Cauchy {length}", own, k[:, :length], 1e-12)
    # a state in the source's kernel: a row s/delta + A s/2 of B gives C Abar^(l + 1) s
    lam, p, s = eigen(x), x["p"], x["state0"][0]
    row = s / torch.exp(x["log_dt"])[:, None] + (
        lam * s - p * 2 * (p.conj() * s).sum(-1, keepdim=True).real) / 2
    from_state, _ = source_kernel(x, 9, row)
    abar, _ = dense(x, "bilinear")
    want = torch.stack([lti.dense_kernel(abar[h], abar[h] @ lti.pair(s[h]), x["c"][h], 9)
                        for h in range(s.shape[0])])
    close(name + " state in the kernel", from_state, want, 1e-12)
    y, last = linear_steps(x)
    return tilde, y, last


# ------------------------------------------------------------------------------- cases

def run(h, rng, name, note, kind, base, low_rank):
    batch, length = base["u"].shape[0], base["u"].shape[2]
    width, n = base["c"].shape
    dy = rng.normal(batch, width, length)
    dlast = lti.complex_normal(rng, batch, width, n)
    x = {k: leaf(v) for k, v in base.items()}
    form = s4 if low_rank else lambda q: s4d(q, kind)

    def loss_of(q, f=form):
        y, last = f(q)
        return (y * dy).sum() + lti.inner(last, dlast)

    y, last = form(x)
    own, own_last = s4(x, kind)
    close(name + " y", y, own, 1e-13)
    close(name + " last", last, own_last, 1e-13)
    abar, bbar = dense(x, kind)
    own_k = torch.stack([lti.dense_kernel(abar[k], bbar[k], x["c"][k], 33) for k in range(width)])
    tilde = {}
    if low_rank:
        k = own_k
        tilde, step_y, step_last = low_rank_checks(name, x, k)
        close(name + " steps", step_y, y, 1e-13)
        close(name + " last step", step_last, last, 1e-13)
        second = linear_steps
    else:
        k = s4d_kernel(x, kind, 33)
        close(name + " kernel", k, own_k, 1e-13)
        for size in LENGTHS:
            close(f"{name} kernel {size}", s4d_kernel(x, kind, size), own_k[:, :size], 1e-13)
        second = s4
    g = grads(loss_of(x), x)
    own_g = grads(loss_of(x, second) if low_rank else loss_of(x, lambda q: s4(q, kind)), x)
    lti.differences(name, loss_of, x, g)
    zero, _ = form({**x, "state0": torch.zeros_like(x["state0"])})

    h.case(name, note, batch=batch, h=width, n=n, len=length, kernel=33)
    for key in x:
        put_in(h, key, x[key], LAYOUT[key], MEANING[key])
    put_in(h, "dy", dy, "(B,H,L)", "d loss / d y")
    put_in(h, "dlast", dlast, "(B,H,N)", "d loss / d last")
    put_out(h, "kernel", k, "(H,L)", "kernel, l < 33")
    for size, v in tilde.items():
        put_out(h, f"c_tilde_{size}", v, "(H,N)", f"C~ for length {size}")
    put_out(h, "y", y, "(B,H,L)", "output, from state0")
    put_out(h, "y_zero", zero, "(B,H,L)", "output, from the zero state")
    put_out(h, "last", last, "(B,H,N)", "state after the last step, from state0")
    for key in x:
        close(f"{name} d{key}", g[key], own_g[key], 1e-12)
        put_out(h, "grad_" + key, g[key], LAYOUT[key], f"d loss / d {key}")


def hippo(h, rng, n):
    """The dense real system, A and B of HiPPO-LegS and a real row c, against its S4 form."""
    width, keep = 2, n // 2
    c, log_dt = rng.normal(width, n), rng.uniform(-4.0, -1.5, width)
    a, b, p = lti.legs(n)
    lam, v = lti.legs_normal(n)
    rows, half = [], []
    for k in range(width):
        dt = math.exp(log_dt[k])
        left = np.eye(n) - dt / 2 * a
        abar, bbar = np.linalg.solve(left, np.eye(n) + dt / 2 * a), np.linalg.solve(left, dt * b)
        row = []
        for _ in range(33):
            row.append(c[k].numpy() @ bbar)
            bbar = abar @ bbar
        rows.append(row)
        half.append((c[k].numpy() @ v)[:keep])

    def repeat(t):
        return lti.tensor(np.tile(np.asarray(t)[:keep], (width, 1)))
    x = {"log_a_real": repeat(np.full(n, math.log(0.5))), "a_imag": repeat(lam.imag),
         "p": repeat((v.conj().T @ p).real.astype(complex)),
         "b": repeat((v.conj().T @ b).real.astype(complex)),
         "c": lti.tensor(np.stack(half)), "log_dt": log_dt}
    kernel = lti.tensor(np.array(rows))
    for size in LENGTHS:
        close(f"hippo{n} {size}", source_kernel(x, size)[0], kernel[:, :size], 1e-12)
    h.case(f"legs{n}", f"HiPPO-LegS of {n} states, real and dense, and its S4 form of {keep} pairs:"
           " the kernel of both", h=width, n=keep, size=n, kernel=33)
    put_in(h, "c_dense", c, "(H,2N)", "c, the row of the real system")
    put_in(h, "log_dt", log_dt, "(H)", MEANING["log_dt"])
    put_out(h, "a_imag", x["a_imag"][0], "(N)", "Im Lambda, ascending; Re Lambda = -1/2")
    put_out(h, "p", x["p"][0].real.contiguous(), "(N)", "P, real")
    put_out(h, "b", x["b"][0].real.contiguous(), "(N)", "B, real")
    put_out(h, "c", x["c"], "(H,N)", "C = c V")
    put_out(h, "kernel", kernel, "(H,L)", "kernel of the real dense system, l < 33")


def inits(h):
    """The diagonals dplr() gives: -Re A and -Im A, both positive; N = 4 pairs."""
    n = 8
    i = np.arange(n // 2)
    h.case("init", "initial diagonals of 4 pairs (d_state 8), -Im A unless said; -Re A = 1/2 but in"
           " `real`", n=n // 2, state=n)
    lam, _ = lti.legs_normal(n)
    for key, value, note in (
            ("lin", np.pi * i, "S4D-Lin, pi n"),
            ("inv", n / np.pi * (n / (1 + 2 * i) - 1), "S4D-Inv"),
            ("inv2", n / np.pi * (n / (1 + i) - 1), "inverse2"),
            ("quad", (1 + 2 * i) ** 2 / np.pi, "quadratic"),
            ("real", 1.0 + i, "real: -Re A = 1 + n; -Im A = 0"),
            ("legs", -lam.imag[:n // 2], "S4D-LegS, descending, as the source keeps them")):
        put_out(h, key, lti.tensor(value), "(N)", note)


def layer(h, rng):
    """What follows the SSM: GELU (erf), 1x1 convolution H -> 2H, GLU over the channels."""
    batch, width, length = 2, 3, 5
    base = {"x": rng.normal(batch, width, length), "w": rng.normal(2 * width, width, scale=0.7),
            "bias": rng.normal(2 * width, scale=0.3)}
    dy = rng.normal(batch, width, length)

    def form(q):
        v = torch.nn.functional.conv1d(torch.nn.functional.gelu(q["x"]), q["w"][:, :, None],
                                       q["bias"])
        return torch.nn.functional.glu(v, dim=-2)

    x = {k: leaf(v) for k, v in base.items()}
    y = form(x)
    own = torch.zeros_like(y.detach())
    for i in range(batch):
        for t in range(length):
            g = [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in base["x"][i, :, t].tolist()]
            v = [base["bias"][k].item() + sum(base["w"][k, j].item() * g[j] for j in range(width))
                 for k in range(2 * width)]
            for k in range(width):
                own[i, k, t] = v[k] / (1 + math.exp(-v[width + k]))
    close("layer y", y, own)
    g = grads((y * dy).sum(), x)
    lti.differences("layer", lambda q: (form(q) * dy).sum(), x, g, 1e-8)
    h.case("layer", "what follows the SSM: v = W gelu(x) + bias (1x1 convolution), GELU exact"
           " (erf); y = v[0..H) * sigmoid(v[H..2H)); gradients of sum(y*dy)", batch=batch, h=width,
           len=length)
    layout = {"x": "(B,H,L)", "w": "(2H,H)", "bias": "(2H)"}
    for k in base:
        put_in(h, k, base[k], layout[k], {"x": "output of the SSM", "w": "weight",
                                          "bias": "bias"}[k])
    put_in(h, "dy", dy, "(B,H,L)", "d loss / d y")
    put_out(h, "y", y, "(B,H,L)", "output")
    for k in base:
        put_out(h, "grad_" + k, g[k], layout[k], f"d loss / d {k}")


def main():
    h = Header("s4_statespaces", "state-spaces/s4 (models/s4/s4d.py, s4.py), from its formulas",
               SEED, TEXT, "python tests/golden/s4_statespaces.py")
    rng = Rng(SEED)
    inits(h)
    batch, width, n, length = 2, 3, 2, 9

    def base(**more):
        return {"u": rng.normal(batch, width, length),
                "log_a_real": rng.uniform(-1.5, 0.3, width, n),
                "a_imag": rng.uniform(0.2, 8.0, width, n),
                "b": lti.complex_normal(rng, width, n), "c": lti.complex_normal(rng, width, n),
                "d": rng.normal(width), "log_dt": rng.uniform(-3.0, -0.5, width),
                "state0": lti.complex_normal(rng, batch, width, n), **more}

    run(h, rng, "s4d_minimal", "S4D, zoh, B = 1 (models/s4/s4d.py)", "zoh",
        base(b=torch.ones(width, n, dtype=torch.complex128)), False)
    run(h, rng, "s4d_zoh", "S4D, zoh, B given", "zoh", base(), False)
    run(h, rng, "s4d_bilinear", "S4D, bilinear, B given", "bilinear", base(), False)

    # S4: HiPPO-LegS of 4 states, rounded, and moved a little in every channel
    lam, v = lti.legs_normal(2 * n)
    _, b, p = lti.legs(2 * n)

    def around(t, amount):
        t = lti.tensor(np.tile(t[:n], (width, 1)))
        if t.is_complex():
            return lti.snap_complex(t + lti.complex_normal(rng, width, n, scale=amount))
        return lti.snap(t + rng.normal(width, n, scale=amount))
    run(h, rng, "s4", "S4, rank one, around HiPPO-LegS of 4 states", "bilinear",
        base(log_a_real=around(np.log(-lam.real), 0.1), a_imag=around(lam.imag, 0.3),
             p=around(v.conj().T @ p + 0j, 0.2), b=around(v.conj().T @ b + 0j, 0.2)), True)
    hippo(h, rng, 4)
    hippo(h, rng, 16)
    layer(h, rng)
    h.write()


if __name__ == "__main__":
    main()
