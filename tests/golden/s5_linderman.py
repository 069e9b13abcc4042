"""s5_linderman.h: golden vectors of lindermanlab/S5 (s5/ssm.py, ssm_init.py, layers.py), run in
float64 / complex128.

    git clone https://github.com/lindermanlab/S5 DIR/S5        # 3c18fdb; not built
    python tests/golden/s5_linderman.py --peers DIR

Outputs and gradients are those of S5SSM and SequenceLayer, by jax.grad, mapped over the batch. The
source carries no state: here the last one is read through its apply_ssm with C = 1 and C = -i, and
state0 goes in as inputs of the first step. All are compared with a second form (loops, pairs
written out) and its autograd, and with central differences. Needs torch, numpy, mpmath, jax and
flax; jax.numpy.DeviceArray, which newer versions have no more, is jax.Array.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
import golden
from golden import Header, Rng
from golden_lti import close, grads, leaf, put_in, put_out

import importlib
import math
import os

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import torch

jax.config.update("jax_enable_x64", True)
jnp.DeviceArray = jax.Array

SEED = 20240112
TEXT = """
u, y and dy are (batch, len, H) = (B,L,H) (the source takes one sequence and is mapped over the
batch). Lambda = Lambda_re + i Lambda_im (P); B (P,H), C (H,P) complex (the source stores them as
(..,2), the same numbers), C of a bidirectional layer as (H,2P): C1, then C2; D (H); log_step (P)
(the source: (P,1)). delta = step_rescale exp(log_step). zoh: Abar = exp(Lambda delta), Bbar =
(Abar - 1)/Lambda B; bilinear: Abar = (1 + delta Lambda/2)/(1 - delta Lambda/2), Bbar = delta/(1 -
delta Lambda/2) B. y = 2 Re(C x) + D u with conj_sym, where P counts one of each pair; else Re(C x)
+ D u. Bidirectional: the second half of C's columns reads the scan of the reversed sequence.

The source carries no state: `last` is read through its apply_ssm with C = 1 and C = -i, and state0,
in the case `state`, goes in as more inputs of the first step. Gradients are of loss = sum(y*dy) + sum over (re, im) of last*dlast (no last in `bidirectional`).

HiPPO-LegS: S = A + P P^T = V Lambda V^H. `legsN_eigen` holds Im Lambda, ascending (Re Lambda =
-1/2, exactly), from 40 digits; the first N/2, the negative ones, are those the source keeps with
conj_sym. The eigenvectors of a solver have any phase; here each column of V is turned so that
(V^H P)_n is real and positive, which makes V unique and V^H B = sqrt(2) V^H P real and positive:
compare magnitudes, or products that the phase leaves alone, (C V)_n (V^H B)_n.

The activations follow the source's layer, without dropout, residual and norm: gelu is the tanh
approximation (jax.nn.gelu's default). Weights are (out, in) here, y = W x + b; flax stores (in,
out).
""" + lti.CONVENTION
LAYOUT = {"u": "(B,L,H)", "lambda_re": "(P)", "lambda_im": "(P)", "b": "(P,H)", "c": "(H,P)",
          "d": "(H)", "log_step": "(P)", "state0": "(B,P)"}
MEANING = {"u": "input", "lambda_re": "`Lambda_re`", "lambda_im": "`Lambda_im`",
           "b": "`B`, that is B~ = Vinv B", "c": "`C`, that is C~ = C V", "d": "`D`, skip",
           "log_step": "`log_step`", "state0": "state before the first step"}


def array(t):
    """A tensor as jax has it; complex ones as (..,2), which is how the source stores them."""
    return jnp.asarray(lti.flat(t).numpy())


def to_torch(a, like=None):
    t = torch.from_numpy(np.array(a))
    return torch.view_as_complex(t) if like is not None and like.is_complex() else t


class Source:
    """s5/ssm.py, ssm_init.py and layers.py of a checkout."""

    def __init__(self, folder):
        golden.bare_package("s5", os.path.join(folder, "s5"))
        self.ssm = importlib.import_module("s5.ssm")
        self.init = importlib.import_module("s5.ssm_init")
        self.layers = importlib.import_module("s5.layers")

    def module(self, p, width, kind, conj_sym, bi, rescale):
        one = jnp.ones(p)
        eye = jnp.eye(2 * p if conj_sym else p, p)
        return self.ssm.S5SSM(one, one, eye, eye.T, width, p, "lecun_normal", kind, 0.001, 0.1,
                              conj_sym, False, bi, rescale)

    def outputs(self, q, kind, conj_sym, bi, rescale):
        """y and the last state (..,2) of a batch; q: arrays by name."""
        p, width = q["b"].shape[:2]
        halves = {"C1": q["c"][:, :p], "C2": q["c"][:, p:]} if bi else {"C": q["c"]}
        params = {"Lambda_re": q["lambda_re"], "Lambda_im": q["lambda_im"], "B": q["b"],
                  "D": q["d"], "log_step": q["log_step"][:, None], **halves}
        m = self.module(p, width, kind, conj_sym, bi, rescale)
        bound = m.bind({"params": params})
        abar, bbar = bound.Lambda_bar, bound.B_bar
        state0 = q.get("state0")

        def one(u, s0):
            if s0 is None:
                y = m.apply({"params": params}, u)
            else:  # Abar s0 as two more inputs of the first step for each state
                bbar_all = jnp.concatenate([bbar, jnp.diag(abar), 1j * jnp.diag(abar)], 1)
                first = jnp.zeros((u.shape[0], 2 * p)).at[0].set(jnp.concatenate([s0[:, 0],
                                                                                 s0[:, 1]]))
                y = self.ssm.apply_ssm(abar, bbar_all, bound.C_tilde, jnp.concatenate([u, first],
                                                                                     1),
                                       conj_sym, bi) + q["d"] * u
                return y, self.last(abar, bbar_all, jnp.concatenate([u, first], 1))
            return y, self.last(abar, bbar, u)

        return (jax.vmap(one, (0, None))(q["u"], None) if state0 is None
                else jax.vmap(one)(q["u"], state0))

    def last(self, abar, bbar, u):
        eye = jnp.eye(abar.shape[0], dtype=abar.dtype)
        return jnp.stack([self.ssm.apply_ssm(abar, bbar, c * eye, u, False, False)[-1]
                          for c in (1, -1j)], -1)

    def run(self, x, kind, conj_sym, bi, rescale, dy, dlast):
        """y, last and the gradients of sum(y dy) + sum(last dlast)."""
        q, dy, dlast = {k: array(v) for k, v in x.items()}, array(dy), array(dlast)

        def loss(q):
            y, last = self.outputs(q, kind, conj_sym, bi, rescale)
            return (y * dy).sum() + (0.0 if bi else (last * dlast).sum()), (y, last)

        (_, (y, last)), g = jax.value_and_grad(loss, has_aux=True)(q)
        return (to_torch(y), torch.view_as_complex(to_torch(last)),
                {k: to_torch(v, x[k]) for k, v in g.items()})

    def activate(self, kind, x, dy):
        """SequenceLayer around an SSM that gives x whatever it gets, its skip and norm fed zeros."""
        class Given(self.layers.nn.Module):
            step_rescale: float = 1.0

            @self.layers.nn.compact
            def __call__(self, _):
                return self.param("x", lambda key: None)

        rows, width = x["x"].shape
        m = self.layers.SequenceLayer(Given, 0.0, width, activation=kind, training=False,
                                      prenorm=True)
        q = {k: array(v) for k, v in x.items()}

        def outputs(q):
            params = {"seq": {"x": q["x"]},
                      "norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)}}
            for i in (1, 2):
                if f"w{i}" in q:
                    params[f"out{i}"] = {"kernel": q[f"w{i}"].T, "bias": q[f"b{i}"]}
            return m.apply({"params": params}, jnp.zeros((rows, width)))

        y = outputs(q)
        g = jax.grad(lambda q: (outputs(q) * array(dy)).sum())(q)
        return to_torch(y), {k: to_torch(v) for k, v in g.items()}


def second(x, kind, conj_sym, bidirectional, rescale):
    """Outputs and last state by golden_lti.shared_scan; conj_sym by the pairs written out."""
    lam = torch.complex(x["lambda_re"], x["lambda_im"])
    p, u = lam.shape[0], x["u"].transpose(1, 2)
    step, b, c = rescale * torch.exp(x["log_step"]), x["b"], x["c"]
    halves = [c[:, :p], c[:, p:]] if bidirectional else [c]
    x0 = x.get("state0")
    if conj_sym:
        lam, b = lti.pair(lam), torch.cat([b, b.conj()])
        halves, step = [lti.pair(k) for k in halves], torch.cat([step, step])
        x0 = None if x0 is None else lti.pair(x0)
    delta = step[None, :, None].expand(u.shape[0], -1, u.shape[2])
    y, last = lti.shared_scan(u, delta, lam, b, halves[0], kind, x0=x0)
    if bidirectional:
        y = y + lti.shared_scan(u.flip(-1), delta, lam, b, halves[1], kind)[0].flip(-1)
    return y.real.transpose(1, 2) + x["d"] * x["u"], last[:, :p]


def exact_legs(n):
    """Im Lambda, ascending, and |V^H P|, |V^H B|, by mpmath in 40 digits, rounded to double."""
    with mpmath.workdps(40):
        root = [mpmath.sqrt(2 * i + 1) for i in range(n)]
        skew = mpmath.matrix(n, n)
        for i in range(n):
            for k in range(i):
                skew[i, k] = mpmath.mpc(0, root[i] * root[k] / 2)
                skew[k, i] = -skew[i, k]
        imag, v = mpmath.eighe(skew)
        b = [abs(mpmath.fsum(mpmath.conj(v[i, k]) * root[i] for i in range(n))) for k in range(n)]
        imag = [mpmath.chop(e, mpmath.mpf(10) ** -30) for e in imag]
        found = [np.array([float(e) for e in row])
                 for row in (imag, [e / mpmath.sqrt(2) for e in b], b)]
    return found


def source_legs(source, n):
    """The source's Lambda and V, each column turned so that (V^H P)_n is real and positive."""
    lam, p, _, v, _ = (np.array(a) for a in source.init.make_DPLR_HiPPO(n))
    return lam, v * (p / np.abs(p))


def eigenvalues(h, source):
    for n in (4, 5, 16, 64):
        imag, p, b = exact_legs(n)
        lam, v = source_legs(source, n)
        _, dense_p, dense_b = (np.array(a) for a in source.init.make_NPLR_HiPPO(n))
        assert np.abs(lam.real + 0.5).max() < 1e-12
        assert np.abs(lam.imag - imag).max() < 1e-15 * n * imag.max()
        assert np.abs((v.conj().T @ dense_b) - b).max() < 1e-14 * n
        assert np.abs((v.conj().T @ dense_p) - p).max() < 1e-14 * n
        h.case(f"legs{n}", f"HiPPO-LegS, N = {n}", n=n)
        put_out(h, "eigen", lti.tensor(imag), "(N)", "Im Lambda, ascending")
        put_out(h, "b", lti.tensor(b), "(N)", "|V^H B|, B = sqrt(2n + 1)")
        put_out(h, "p", lti.tensor(p), "(N)", "|V^H P|, P = sqrt(n + 1/2)")


def init(h, rng, source):
    size, blocks, width = 8, 2, 3
    each = size // blocks
    lam, v = source_legs(source, each)
    keep = each // 2
    zero = np.zeros((each, keep))
    big = np.block([[v[:, :keep], zero], [zero, v[:, :keep]]])
    b, c = rng.normal(size, width), lti.complex_normal(rng, width, size)
    h.case("init", "conj_sym, state size 8 in 2 blocks of 4: P = 4 kept; V is block diagonal, the"
           " first half of each block's columns", size=size, blocks=blocks, p=blocks * keep,
           h=width)
    put_in(h, "b", b, "(2P,H)", "B as drawn, real")
    put_in(h, "c", c, "(H,2P)", "C as drawn, complex")
    put_out(h, "lambda", lti.tensor(np.concatenate([lam[:keep]] * blocks)), "(P)", "Lambda")
    put_out(h, "v", lti.tensor(big), "(2P,P)", "V, phases as above")
    bt = to_torch(source.init.init_VinvB(lambda key, shape: array(b), None, b.shape,
                                         jnp.asarray(big.conj().T)), c)
    ct = to_torch(source.init.init_CV(lambda key, shape: array(c), None, c.shape,
                                      jnp.asarray(big)), c)
    close("b_tilde", bt, lti.tensor(big.conj().T) @ b.to(torch.complex128))
    close("c_tilde", ct, c @ lti.tensor(big))
    put_out(h, "b_tilde", bt, "(P,H)", "B~ = V^H B")
    put_out(h, "c_tilde", ct, "(H,P)", "C~ = C V")
    # C real: the pairs written out give back the dense block S
    s = lti.legs(each)[0] + np.outer(lti.legs(each)[2], lti.legs(each)[2])
    dense = np.kron(np.eye(blocks), s)
    half = big @ np.diag(np.concatenate([lam[:keep]] * blocks)) @ big.conj().T
    assert np.abs(2 * half.real - dense).max() < 1e-12


def layers(h, rng, source):
    batch, length, width, p = 2, 7, 3, 4
    base = {"u": rng.normal(batch, length, width), "lambda_re": -rng.uniform(0.1, 1.0, p),
            "lambda_im": rng.normal(p, scale=3.0),
            "b": lti.complex_normal(rng, p, width, scale=0.6),
            "c": lti.complex_normal(rng, width, p, scale=0.6), "d": rng.normal(width),
            "log_step": rng.uniform(-2.5, -0.3, p)}
    wide = lti.complex_normal(rng, width, 2 * p, scale=0.6)
    state0 = lti.complex_normal(rng, batch, p)
    dy, dlast = rng.normal(batch, length, width), lti.complex_normal(rng, batch, p)
    h.case("in", "inputs shared by the cases from here on", batch=batch, len=length, h=width, p=p)
    for k in base:
        put_in(h, k, base[k], LAYOUT[k], MEANING[k])
    put_in(h, "c_bidirectional", wide, "(H,2P)", "`C1`, `C2` of the case `bidirectional`")
    put_in(h, "state0", state0, "(B,P)", MEANING["state0"] + ", of the case `state`")
    put_in(h, "dy", dy, "(B,L,H)", "d loss / d y")
    put_in(h, "dlast", dlast, "(B,P)", "d loss / d last")
    for name, note, kind, conj_sym, bi, rescale in (
            ("zoh", "zoh, conj_sym", "zoh", True, False, 1.0),
            ("bilinear", "bilinear, conj_sym", "bilinear", True, False, 1.0),
            ("plain", "zoh, no conj_sym", "zoh", False, False, 1.0),
            ("rescaled", "zoh, conj_sym, step_rescale 0.5", "zoh", True, False, 0.5),
            ("state", "bilinear, conj_sym, from state0", "bilinear", True, False, 1.0),
            ("bidirectional", "zoh, conj_sym, bidirectional", "zoh", True, True, 1.0)):
        x = dict(base, **({"c": wide} if bi else {}), **({"state0": state0} if name == "state"
                                                        else {}))
        x = {k: leaf(v) for k, v in x.items()}

        def loss_of(q):
            y, last = second(q, kind, conj_sym, bi, rescale)
            return (y * dy).sum() + (0.0 if bi else lti.inner(last, dlast))

        y, last, g = source.run(x, kind, conj_sym, bi, rescale, dy, dlast)
        own, own_last = second(x, kind, conj_sym, bi, rescale)
        close(name + " y", y, own)
        if not bi:
            close(name + " last", last, own_last)
        own_g = grads(loss_of(x), x)
        lti.differences(name, loss_of, x, g)
        h.case(name, note)
        put_out(h, "y", y, "(B,L,H)", "output")
        if not bi:
            put_out(h, "last", last, "(B,P)", "state after the last step")
        for k in x:
            close(f"{name} d{k}", g[k], own_g[k], 1e-13)
            put_out(h, "grad_" + k, g[k], "(H,2P)" if bi and k == "c" else LAYOUT[k],
                    f"d loss / d {k}")


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def activate(kind, x):
    def linear(v, i):
        return v @ x[f"w{i}"].T + x[f"b{i}"]

    g = gelu(x["x"])
    if kind == "full_glu":
        return linear(g, 1) * torch.sigmoid(linear(g, 2))
    if kind == "half_glu1":
        return g * torch.sigmoid(linear(g, 2))
    if kind == "half_glu2":
        return x["x"] * torch.sigmoid(linear(g, 2))
    return g


def activations(h, rng, source):
    rows, width = 5, 3
    base = {"x": rng.normal(rows, width), "w1": rng.normal(width, width, scale=0.7),
            "b1": rng.normal(width, scale=0.3), "w2": rng.normal(width, width, scale=0.7),
            "b2": rng.normal(width, scale=0.3)}
    dy = rng.normal(rows, width)
    layout = {"x": "(T,H)", "w1": "(H,H)", "b1": "(H)", "w2": "(H,H)", "b2": "(H)"}
    meaning = {"x": "input", "w1": "`out1`, weight", "b1": "`out1`, bias", "w2": "`out2`, weight,"
               " of the gate", "b2": "`out2`, bias, of the gate"}
    h.case("act", "inputs shared by the activations; gradients of sum(y*dy)", rows=rows, h=width)
    for k in base:
        put_in(h, k, base[k], layout[k], meaning[k])
    put_in(h, "dy", dy, "(T,H)", "d loss / d y")
    for kind, note, used in (
            ("gelu", "gelu(x)", ("x",)),
            ("half_glu1", "g = gelu(x); g * sigmoid(W2 g + b2)", ("x", "w2", "b2")),
            ("half_glu2", "x * sigmoid(W2 gelu(x) + b2)", ("x", "w2", "b2")),
            ("full_glu", "g = gelu(x); (W1 g + b1) * sigmoid(W2 g + b2)",
             ("x", "w1", "b1", "w2", "b2"))):
        x = {k: leaf(base[k]) for k in used}
        y, g = source.activate(kind, x, dy)
        own_g = grads((activate(kind, x) * dy).sum(), x)
        close(kind + " y", y, activate(kind, x))
        for k in x:
            close(f"{kind} d{k}", g[k], own_g[k])
        lti.differences(kind, lambda q: (activate(kind, q) * dy).sum(), x, g, 1e-8)
        h.case("act_" + kind, note)
        put_out(h, "y", y, "(T,H)", "output")
        for k in x:
            put_out(h, "grad_" + k, g[k], layout[k], f"d loss / d {k}")


def main():
    source = Source(golden.peers_folder("S5", r"S5(-.*)?"))
    h = Header("s5_linderman", "lindermanlab/S5 3c18fdb (s5/ssm.py, ssm_init.py, layers.py)", SEED,
               TEXT)
    rng = Rng(SEED)
    eigenvalues(h, source)
    init(h, rng, source)
    layers(h, rng, source)
    activations(h, rng, source)
    h.write()


if __name__ == "__main__":
    main()
