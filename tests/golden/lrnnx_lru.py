"""lrnnx_lru.h: golden vectors of lrnnx 1.0.0.post1, lrnnx.models.lti.LRU: whole sequences from a
zero state, and steps from a given one; run in float64 / complex128.

    pip download --no-deps --no-binary :all: lrnnx==1.0.0.post1   # unpack in DIR, not built
    python tests/golden/lrnnx_lru.py --peers DIR

Needs torch, einops and opt_einsum.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
import golden
from golden import Header, Rng
from golden_lti import close, grads, leaf, put_in, put_out

import importlib
import os

import torch

SEED = 20241129
TEXT = """
Parameters under the source's names: nu_log, theta_log, gamma_log (N), B_re, B_im (N,H), C_re, C_im
(H,N), D (H). N counts complex states. x and y are (batch, len, H), states (batch, N) complex.

lambda = exp(-exp(nu_log) + i exp(theta_log)); h = lambda h + exp(gamma_log) B x; y = Re(C h) + D x.

`forward`: the source's forward, which starts from zero and gives no state, of loss = sum(y*dy).
Its convolution casts to complex64; here those casts are to complex128.

`steps`: its step, len times, from state0: y and the state `last`; loss = sum(y*dy) + sum over
(re, im) of last*dlast. The source starts its steps from zeros in complex64 and overwrites them in
place; here the array is state0 in complex128, and what autograd saved of it is kept.

`init_gamma_log` is what the source's __init__ makes of `init_nu_log`.
""" + lti.CONVENTION
SHAPES = {"nu_log": "(N)", "theta_log": "(N)", "gamma_log": "(N)", "b_re": "(N,H)",
          "b_im": "(N,H)", "c_re": "(H,N)", "c_im": "(H,N)", "d": "(H)"}


def own_run(x, q, h0):
    """The recurrence, by loops: y (B,L,H), last (B,N)."""
    lam = torch.exp(torch.complex(-torch.exp(q["nu_log"]), torch.exp(q["theta_log"])))
    b, c = torch.complex(q["B_re"], q["B_im"]), torch.complex(q["C_re"], q["C_im"])
    ys, last = [], []
    for i in range(x.shape[0]):
        h = h0[i]
        for t in range(x.shape[1]):
            h = lam * h + torch.exp(q["gamma_log"]) * (b * x[i, t]).sum(1)
            ys.append((c * h).sum(1).real + q["D"] * x[i, t])
        last.append(h)
    return torch.stack(ys).reshape(x.shape), torch.stack(last)


def main():
    folder = golden.peers_folder("lrnnx-1.0.0.post1", r"lrnnx-.*")
    golden.bare_package("lrnnx", os.path.join(folder, "lrnnx"))
    for name in ("ops", "core", "models", "models.lti"):
        golden.bare_package("lrnnx." + name, os.path.join(folder, "lrnnx", *name.split(".")))
    golden.import_in_double("lrnnx.core.convolution")
    source = importlib.import_module("lrnnx.models.lti.lru").LRU
    assert golden.changed_casts("lrnnx.core.convolution") > 0

    h = Header("lrnnx_lru", "lrnnx 1.0.0.post1 (PyPI source archive), models.lti.LRU", SEED, TEXT,
               "python tests/golden/lrnnx_lru.py --peers DIR")
    rng = Rng(SEED)
    batch, length, width, n = 2, 7, 3, 4
    given = {"nu_log": rng.uniform(-3.0, 0.5, n), "theta_log": rng.uniform(-2.0, 1.8, n),
             "gamma_log": rng.uniform(-1.5, 0.2, n), "B_re": rng.normal(n, width, scale=0.6),
             "B_im": rng.normal(n, width, scale=0.6), "C_re": rng.normal(width, n, scale=0.6),
             "C_im": rng.normal(width, n, scale=0.6), "D": rng.normal(width)}
    x = rng.normal(batch, length, width)
    dy = rng.normal(batch, length, width)
    state0, dlast = lti.complex_normal(rng, batch, n), lti.complex_normal(rng, batch, n)

    def layer():
        m = source(width, n).double()
        names = dict(m.named_parameters())
        assert set(names) == set(given), set(names) ^ set(given)
        with torch.no_grad():
            for key, p in names.items():
                assert p.shape == given[key].shape, key
                p.copy_(given[key])
        return m

    def compare(name, y, last, loss, q, own_q, h0):
        own_y, own_last = own_run(own_q["x"], own_q, h0)
        close(name + " y", y, own_y, 1e-13)
        own_loss = (own_y * dy).sum()
        if last is not None:
            close(name + " last", last, own_last, 1e-13)
            own_loss = own_loss + lti.inner(own_last, dlast)
        g, own_g = grads(loss, q), grads(own_loss, own_q)
        for key in q:
            close(f"{name} d{key}", g[key], own_g[key], 1e-12)
        return own_last, g

    h.case("in", "inputs shared by both cases", batch=batch, len=length, h=width, n=n)
    for key, v in given.items():
        put_in(h, key.lower(), v, SHAPES[key.lower()], f"parameter `{key}`")
    put_in(h, "x", x, "(B,L,H)", "input")
    put_in(h, "state0", state0, "(B,N)", "state before the first step, of `steps`")
    put_in(h, "dy", dy, "(B,L,H)", "d loss / d y")
    put_in(h, "dlast", dlast, "(B,N)", "d loss / d last, of `steps`")

    def put(name, note, y, last, g):
        h.case(name, note)
        put_out(h, "y", y, "(B,L,H)", "output")
        put_out(h, "last", last, "(B,N)", "state after the last step")
        for key, v in g.items():
            put_out(h, "grad_" + key.lower(), v, SHAPES.get(key.lower(), ""), f"d loss / d {key}")

    m = layer()
    q = {**dict(m.named_parameters()), "x": leaf(x)}
    y = m(q["x"])
    own_last, g = compare("forward", y, None, (y * dy).sum(), q,
                          {k: leaf(given.get(k, v)) for k, v in q.items()},
                          torch.zeros(batch, n, dtype=torch.complex128))
    put("forward", "LRU(3, 4).forward; `last` is of this script's recurrence", y, own_last, g)

    m = layer()
    q = {**dict(m.named_parameters()), "x": leaf(x), "state0": leaf(state0)}
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        cache = m.allocate_inference_cache(batch)
        cache["lrnn_state"] = q["state0"].clone()
        ys = []
        for t in range(length):
            out, cache = m.step(q["x"][:, t], cache)
            ys.append(out)
        y, last = torch.stack(ys, 1), cache["lrnn_state"].clone()
        own = {k: leaf(given.get(k, v)) for k, v in q.items()}
        _, g = compare("steps", y, last, (y * dy).sum() + lti.inner(last, dlast), q, own,
                       own["state0"])
    put("steps", "LRU(3, 4).step from state0", y, last, g)

    torch.manual_seed(SEED)
    with torch.no_grad():
        double = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        m = source(2, 16, r_min=0.3, r_max=0.98, max_phase=1.5)
        torch.set_default_dtype(double)
    h.case("init", "LRU(2, 16, r_min=0.3, r_max=0.98, max_phase=1.5)", n=16)
    put_out(h, "nu_log", m.nu_log, "(N)", "as drawn by the source")
    put_out(h, "gamma_log", m.gamma_log, "(N)", "what its __init__ makes of that")
    h.write()


if __name__ == "__main__":
    main()
