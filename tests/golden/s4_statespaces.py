"""s4_statespaces.h: golden vectors of state-spaces/s4 (models/s4/s4d.py, s4.py): S4D and S4
(diagonal plus low rank), run in float64 / complex128.

    git clone https://github.com/state-spaces/s4 DIR/s4        # e757cef; not built
    python tests/golden/s4_statespaces.py --peers DIR

Outputs, states and gradients are those of s4.py's FFTConv, by autograd; s4d.py, which has no
states, gives the outputs from the zero state and what follows the SSM. Everything is compared with
the definition, the dense matrix recurrence C Abar^l Bbar, and gradients with central differences
too. Needs torch, numpy, scipy and einops; of PyTorch Lightning a stand-in for one decorator.
Without its CUDA extension and pykeops the source takes its plain Cauchy and Vandermonde sums.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
import golden
from golden import Header, Rng
from golden_lti import close, grads, leaf, put_in, put_out

import math
import os
import types

import numpy as np
import torch

SEED = 20240113
LENGTHS = (1, 2, 7, 16, 33)
TEXT = """
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
`c_tilde_L` = the first N of (I - Abar^L)^T C, what the source stores in place of C, L = l_max. Its
kernel of length L, odd and even, is that of the plain C, to 1e-12.

Every case starts from state0; `last` is the state after the last step. `y_zero` is the output
from the zero state. Outputs of the steps, one sample at a time, are y. Gradients are of loss =
sum(y*dy) + sum over (re, im) of last*dlast, state0 in place; S4's are by the plain C: they go on
through the source's change of C to C~, whose torch.no_grad() is taken away.

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


# ------------------------------------------------------------------------------- the source

class Source:
    """s4.py and s4d.py of a checkout."""

    def __init__(self, folder):
        def stand_in(name, **contents):
            golden.empty_module(name)
            for key, value in contents.items():
                setattr(golden.sys.modules[name], key, value)

        for name in ("pytorch_lightning", "src", "src.models"):
            golden.empty_module(name)
        stand_in("pytorch_lightning.utilities", rank_zero_only=lambda f: f)
        models = os.path.join(folder, "models", "s4")
        self.s4 = golden.load_in_double("s4_standalone", os.path.join(models, "s4.py"))
        stand_in("src.models.nn", DropoutNd=self.s4.DropoutNd)
        self.s4d = golden.load_in_double("s4d_minimal", os.path.join(models, "s4d.py"))
        golden.with_gradients(self.s4.SSMKernel, self.s4.SSMKernelDPLR)

    def layer(self, x, kind, l_max):
        """FFTConv with these weights, as tensors that gradients go through."""
        width, n = x["c"].shape
        mode = {"mode": "dplr"} if "p" in x else {"mode": "s4d", "disc": kind}
        m = self.s4.FFTConv(width, l_max=l_max, activation=None, d_state=2 * n, init="diag-lin"
                            if "p" not in x else "legs", verbose=False, **mode).double()
        values = {"inv_dt": x["log_dt"][:, None], "A_real": x["log_a_real"], "A_imag": -x["a_imag"],
                  "B": torch.view_as_real(x["b"][None]),
                  "C": torch.view_as_real(x["c"][None].clone())}
        if "p" in x:
            values["P"] = torch.view_as_real(x["p"][None])
        assert set(values) == set(m.kernel._parameters), set(m.kernel._parameters)
        for key, value in values.items():
            golden.give(m.kernel, key, value)
        golden.give(m, "D", x["d"][None])
        return m

    def run(self, x, kind):
        """Outputs and the last state, from state0."""
        return self.layer(x, kind, x["u"].shape[2])(x["u"], state=x["state0"])

    def kernel(self, x, kind, length):
        """The kernel, and C~ (S4)."""
        with torch.no_grad():
            m = self.layer(x, kind, length)
            k = m.kernel(L=length)[0][0]
            return k, torch.view_as_complex(m.kernel.C.contiguous())[0]

    def steps(self, x, kind):
        with torch.no_grad():
            m = self.layer(x, kind, x["u"].shape[2])
            if "p" in x:
                m.kernel(L=x["u"].shape[2])  # C~ first, as the source wants it
                m.setup_step(mode="linear")
            else:
                m.setup_step()
            m.default_state(1)
            state, ys = x["state0"], []
            for t in range(x["u"].shape[2]):
                y, state = m.step(x["u"][:, :, t], state)
                ys.append(y)
            return torch.stack(ys, 2), state

    def minimal(self, x):
        """s4d.py from the zero state (B = 1): kernel of length 33, y before its activation."""
        width, n = x["c"].shape
        m = self.s4d.S4D(width, d_state=2 * n).double()
        for key, value in (("log_dt", x["log_dt"]), ("log_A_real", x["log_a_real"]),
                           ("A_imag", x["a_imag"]), ("C", torch.view_as_real(x["c"]))):
            golden.give(m.kernel, key, value)
        golden.give(m, "D", x["d"])
        m.activation = m.output_linear = torch.nn.Identity()
        return m.kernel(L=33), m(x["u"])[0]


# --------------------------------------------------------------------------- the definition

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


# ------------------------------------------------------------------------------- cases

def run(h, rng, source, name, note, kind, base):
    batch, length = base["u"].shape[0], base["u"].shape[2]
    width, n = base["c"].shape
    dy = rng.normal(batch, width, length)
    dlast = lti.complex_normal(rng, batch, width, n)
    x = {k: leaf(v) for k, v in base.items()}

    def loss_of(q, form):
        y, last = form(q, kind)
        return (y * dy).sum() + lti.inner(last, dlast)

    y, last = source.run(x, kind)
    own, own_last = s4(x, kind)
    close(name + " y", y, own, 1e-13)
    close(name + " last", last, own_last, 1e-13)
    abar, bbar = dense(x, kind)
    own_k = torch.stack([lti.dense_kernel(abar[k], bbar[k], x["c"][k], 33) for k in range(width)])
    tilde = {}
    for size in LENGTHS:
        k, tilde[size] = source.kernel(x, kind, size)
        close(f"{name} kernel {size}", k, own_k[:, :size], 1e-12)
        for i in range(width if "p" in x else 0):
            power = torch.linalg.matrix_power(abar[i], size)
            want = lti.pair(x["c"][i]) - power.T @ lti.pair(x["c"][i])
            close(f"{name} c_tilde {size}", tilde[size][i], want[:n], 1e-12)
    step_y, step_last = source.steps(x, kind)
    close(name + " steps", step_y, y, 1e-12)
    close(name + " last step", step_last, last, 1e-12)
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        g = grads(loss_of(x, source.run), x)
    own_g = grads(loss_of(x, s4), x)
    lti.differences(name, lambda q: loss_of(q, s4), x, g)
    from_zero = {**x, "state0": torch.zeros_like(x["state0"])}
    zero, _ = source.run(from_zero, kind)
    if name == "s4d_minimal":
        k, zero = source.minimal(x)
        close(name + " y of s4d.py", zero, s4(from_zero, kind)[0], 1e-13)
        close(name + " kernel of s4d.py", k, own_k, 1e-13)
        part = {key: v for key, v in x.items() if key not in ("b", "state0")}
        minimal_g = grads((zero * dy).sum(), part)
        want = grads((s4({**from_zero, **part}, kind)[0] * dy).sum(), part)
        for key in part:
            close(f"{name} d{key} of s4d.py", minimal_g[key], want[key], 1e-12)

    h.case(name, note, batch=batch, h=width, n=n, len=length, kernel=33)
    for key in x:
        put_in(h, key, x[key], LAYOUT[key], MEANING[key])
    put_in(h, "dy", dy, "(B,H,L)", "d loss / d y")
    put_in(h, "dlast", dlast, "(B,H,N)", "d loss / d last")
    put_out(h, "kernel", k, "(H,L)", "kernel, l < 33")
    for size, v in tilde.items() if "p" in x else ():
        put_out(h, f"c_tilde_{size}", v, "(H,N)", f"C~ for length {size}")
    put_out(h, "y", y, "(B,H,L)", "output, from state0")
    put_out(h, "y_zero", zero, "(B,H,L)", "output, from the zero state")
    put_out(h, "last", last, "(B,H,N)", "state after the last step, from state0")
    for key in x:
        close(f"{name} d{key}", g[key], own_g[key], 1e-12)
        put_out(h, "grad_" + key, g[key], LAYOUT[key], f"d loss / d {key}")


def hippo(h, rng, source, n):
    """The dense real system, A and B of HiPPO-LegS and a real row c, against its S4 form: both as
    the source has them."""
    width, keep = 2, n // 2
    c, log_dt = rng.normal(width, n), rng.uniform(-4.0, -1.5, width)
    a, b = source.s4.transition("legs", n)
    own_a, own_b, _ = lti.legs(n)
    assert np.abs(a - own_a).max() < 1e-12 * n and np.abs(b[:, 0] - own_b).max() < 1e-14 * n
    lam, p, b_tilde, v = source.s4.nplr("legs", n, dtype=torch.float64, B_clip=None)
    own_lam, _ = lti.legs_normal(n)
    close(f"hippo{n} Lambda", lam, lti.tensor(own_lam[:keep]), 1e-13)
    turn = p[0] / p[0].abs()  # V's columns, so that V^H P is real and positive
    rows = []
    for k in range(width):
        dt = math.exp(log_dt[k])
        left = np.eye(n) - dt / 2 * a
        abar, x = np.linalg.solve(left, np.eye(n) + dt / 2 * a), np.linalg.solve(left, dt * b[:, 0])
        row = []
        for _ in range(33):
            row.append(c[k].numpy() @ x)
            x = abar @ x
        rows.append(row)
    half = c.to(v.dtype) @ v * turn

    def repeat(t):
        return t.expand(width, keep).contiguous()
    x = {"log_a_real": repeat(torch.log(-lam.real)), "a_imag": repeat(lam.imag),
         "p": repeat((p[0] / turn).real + 0j), "b": repeat((b_tilde / turn).real + 0j), "c": half,
         "d": torch.zeros(width, dtype=torch.float64), "log_dt": log_dt}
    assert float((b_tilde / turn).imag.abs().max()) < 1e-13 * n
    kernel = lti.tensor(np.array(rows))
    for size in LENGTHS:
        close(f"hippo{n} {size}", source.kernel(x, "bilinear", size)[0], kernel[:, :size], 1e-12)
    h.case(f"legs{n}", f"HiPPO-LegS of {n} states, real and dense, and its S4 form of {keep} pairs:"
           " the kernel of both", h=width, n=keep, size=n, kernel=33)
    put_in(h, "c_dense", c, "(H,2N)", "c, the row of the real system")
    put_in(h, "log_dt", log_dt, "(H)", MEANING["log_dt"])
    put_out(h, "a_imag", x["a_imag"][0], "(N)", "Im Lambda, ascending; Re Lambda = -1/2")
    put_out(h, "p", x["p"][0].real.contiguous(), "(N)", "P, real")
    put_out(h, "b", x["b"][0].real.contiguous(), "(N)", "B, real")
    put_out(h, "c", x["c"], "(H,N)", "C = c V")
    put_out(h, "kernel", kernel, "(H,L)", "kernel of the real dense system, l < 33")


def inits(h, source):
    """The diagonals dplr() gives: -Re A and -Im A, both positive; N = 4 pairs."""
    n = 8
    i = np.arange(n // 2)
    torch.set_default_dtype(torch.float64)  # pi and the halves are made in the default type
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
        a = source.s4.dplr(key, N=n, H=1, dtype=torch.float64)[0][0]
        found = -a.real if key == "real" else -a.imag
        close("init " + key, found, lti.tensor(np.asarray(value, float)), 1e-13)
        assert key == "real" or bool((a.real == -0.5).all())
        put_out(h, key, found, "(N)", note)
    torch.set_default_dtype(torch.float32)


def layer(h, rng, source):
    """What follows the SSM: GELU (erf), 1x1 convolution H -> 2H, GLU over the channels."""
    batch, width, length = 2, 3, 5
    base = {"x": rng.normal(batch, width, length), "w": rng.normal(2 * width, width, scale=0.7),
            "bias": rng.normal(2 * width, scale=0.3)}
    dy = rng.normal(batch, width, length)

    def form(q):
        m = source.s4d.S4D(width, d_state=4).double()
        golden.give(m.output_linear[0], "weight", q["w"][:, :, None])
        golden.give(m.output_linear[0], "bias", q["bias"])
        return m.output_linear(m.activation(q["x"]))

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
    source = Source(golden.peers_folder("s4", r"s4(-.*)?"))
    h = Header("s4_statespaces", "state-spaces/s4 e757cef (models/s4/s4d.py, s4.py)", SEED, TEXT)
    rng = Rng(SEED)
    inits(h, source)
    batch, width, n, length = 2, 3, 2, 9

    def base(**more):
        return {"u": rng.normal(batch, width, length),
                "log_a_real": rng.uniform(-1.5, 0.3, width, n),
                "a_imag": rng.uniform(0.2, 8.0, width, n),
                "b": lti.complex_normal(rng, width, n), "c": lti.complex_normal(rng, width, n),
                "d": rng.normal(width), "log_dt": rng.uniform(-3.0, -0.5, width),
                "state0": lti.complex_normal(rng, batch, width, n), **more}

    run(h, rng, source, "s4d_minimal", "S4D, zoh, B = 1 (models/s4/s4d.py)", "zoh",
        base(b=torch.ones(width, n, dtype=torch.complex128)))
    run(h, rng, source, "s4d_zoh", "S4D, zoh, B given", "zoh", base())
    run(h, rng, source, "s4d_bilinear", "S4D, bilinear, B given", "bilinear", base())

    # S4: HiPPO-LegS of 4 states, rounded, and moved a little in every channel
    lam, v = lti.legs_normal(2 * n)
    _, b, p = lti.legs(2 * n)

    def around(t, amount):
        t = lti.tensor(np.tile(t[:n], (width, 1)))
        if t.is_complex():
            return lti.snap_complex(t + lti.complex_normal(rng, width, n, scale=amount))
        return lti.snap(t + rng.normal(width, n, scale=amount))
    run(h, rng, source, "s4", "S4, rank one, around HiPPO-LegS of 4 states", "bilinear",
        base(log_a_real=around(np.log(-lam.real), 0.1), a_imag=around(lam.imag, 0.3),
             p=around(v.conj().T @ p + 0j, 0.2), b=around(v.conj().T @ b + 0j, 0.2)))
    hippo(h, rng, source, 4)
    hippo(h, rng, source, 16)
    layer(h, rng, source)
    h.write()


if __name__ == "__main__":
    main()
