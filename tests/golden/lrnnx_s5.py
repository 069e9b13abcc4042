"""lrnnx_s5.h: golden vectors of lrnnx 1.0.0.post1, lrnnx.ops.simplified_scan: simplified_scan_ref
and s5_inner_ref, with every discretization and with a separate step size for A (deltaA), run in
float64 / complex128.

    pip download --no-deps --no-binary :all: lrnnx==1.0.0.post1   # unpack in DIR, not built
    python tests/golden/lrnnx_s5.py --peers DIR

Needs torch. The CUDA extension is replaced by an empty module.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
import golden
from golden import Header, Rng
from golden_lti import close, grads, leaf, put_in, put_out

import importlib
import os

import torch

SEED = 20240108
TEXT = """
u and out are (batch, H, len), delta and deltaA (batch, P, len) and real, A (P), B (P,H), C (H,P);
u, A, B, C and the scan's out are complex. The cases named after a discretization, and those named
`inner_`, share the inputs of the case `in`.

v = B u; zoh: Abar = exp(d_A A), gamma = (exp(delta A) - 1)/A. bilinear: Abar = (1 + d_A A/2)/(1 -
d_A A/2), gamma = delta/(1 - delta A/2). dirac: Abar = exp(d_A A), gamma = 1. d_A is deltaA where
given, else delta. x = Abar x + gamma v; y = C x. s5_inner: out = (2 if conj_sym else 1) Re y + D
Re u.

`last` is the state after the last step, from the recurrence of this script (the reference
function's agrees; the CUDA function's is wrong: out[:, -1, 1::2] + i out[:, -1, 0::2]).

Gradients are of loss = sum over (re, im) of out*dout; where a case is named `_dlast`, plus the sum
over (re, im) of last*dlast.
""" + lti.CONVENTION
LAYOUT = {"u": "(B,H,L)", "delta": "(B,P,L)", "a": "(P)", "b": "(P,H)", "c": "(H,P)", "d": "(H)",
          "delta_a": "(B,P,L)"}
MEANING = {"u": "input", "delta": "step size, used as it is", "a": "A, eigenvalues",
           "b": "B, input to state", "c": "C, state to output", "d": "D, real, skip",
           "delta_a": "deltaA, separate step size of A"}


def main():
    folder = golden.peers_folder("lrnnx-1.0.0.post1", r"lrnnx-.*")
    golden.bare_package("lrnnx", os.path.join(folder, "lrnnx"))
    golden.bare_package("lrnnx.ops", os.path.join(folder, "lrnnx", "ops"))
    golden.empty_module("simplified_scan_cuda")
    golden.import_in_double("lrnnx.ops.simplified_scan")
    module = importlib.import_module("lrnnx.ops.simplified_scan")
    assert golden.changed_casts("lrnnx.ops.simplified_scan") > 0

    h = Header("lrnnx_s5", "lrnnx 1.0.0.post1 (PyPI source archive), simplified_scan_ref and"
               " s5_inner_ref", SEED, TEXT, "python tests/golden/lrnnx_s5.py --peers DIR")
    rng = Rng(SEED)
    batch, width, p, length = 2, 3, 4, 5
    x = {"u": lti.complex_normal(rng, batch, width, length),
         "delta": rng.uniform(0.05, 0.9, batch, p, length),
         "a": torch.complex(-rng.uniform(0.1, 1.2, p), rng.normal(p, scale=3.0)),
         "b": lti.complex_normal(rng, p, width, scale=0.6),
         "c": lti.complex_normal(rng, width, p, scale=0.6), "d": rng.normal(width),
         "delta_a": rng.uniform(0.05, 1.2, batch, p, length)}
    x = {k: leaf(v) for k, v in x.items()}
    dout = lti.complex_normal(rng, batch, width, length)
    dlast = lti.complex_normal(rng, batch, p)
    dout_real = rng.normal(batch, width, length)
    h.case("in", "inputs shared by all cases", batch=batch, h=width, p=p, len=length)
    for k in x:
        put_in(h, k, x[k], LAYOUT[k], MEANING[k])
    put_in(h, "dout", dout, "(B,H,L)", "d loss / d out of the scan cases")
    put_in(h, "dlast", dlast, "(B,P)", "d loss / d last of the cases `_dlast`")
    put_in(h, "dout_real", dout_real, "(B,H,L)", "d loss / d out of the cases `inner_`")

    def run(name, note, kind, keys, from_last, conj_sym=None):
        used = {k: x[k] for k in keys}
        args = [used[k] for k in ("u", "delta", "a", "b", "c")]
        delta_a = used.get("delta_a")
        own_y, own_last = lti.shared_scan(*args, kind, delta_a)
        if conj_sym is None:
            out, last = module.simplified_scan_ref(*args, deltaA=delta_a, return_last_state=True,
                                                   discretization=kind)
            own, d = own_y, dout
            close(name + " last", last, own_last)
        else:
            out = module.s5_inner_ref(*args, used["d"], deltaA=delta_a, discretization=kind,
                                      conj_sym=conj_sym)
            own = ((2.0 if conj_sym else 1.0) * own_y.real
                   + used["d"][:, None] * used["u"].real)
            d = dout_real
        close(name + " out", out, own)
        loss, own_loss = lti.inner(out, d), lti.inner(own, d)
        if from_last:
            loss = loss + lti.inner(last, dlast)
            own_loss = own_loss + lti.inner(own_last, dlast)
        g, own_g = grads(loss, used), grads(own_loss, used)
        h.case(name, note)
        put_out(h, "out", out, "(B,H,L)", "output")
        put_out(h, "last", own_last, "(B,P)", "state after the last step")
        for k in used:
            close(f"{name} d{k}", g[k], own_g[k], 1e-13)
            put_out(h, "grad_" + k, g[k], LAYOUT[k], f"d loss / d {k}")

    base = ("u", "delta", "a", "b", "c")
    for kind in ("bilinear", "zoh", "dirac"):
        run(kind, f"simplified_scan_ref, discretization='{kind}'"
            + (" (delta enters Abar only)" if kind == "dirac" else ""), kind, base, False)
        run(kind + "_da", f"simplified_scan_ref, discretization='{kind}', deltaA given"
            + (" (so delta has no effect)" if kind == "dirac" else ""), kind,
            base + ("delta_a",), False)
    run("zoh_da_dlast", "as zoh_da, with a gradient from the last state too", "zoh",
        base + ("delta_a",), True)
    run("inner_conj", "s5_inner_ref, bilinear (its default), conj_sym=True (its default)",
        "bilinear", base + ("d",), False, True)
    run("inner_conj_da", "s5_inner_ref, zoh, conj_sym=True, deltaA given", "zoh",
        base + ("d", "delta_a"), False, True)
    run("inner_plain", "s5_inner_ref, zoh, conj_sym=False", "zoh", base + ("d",), False, False)
    run("inner_plain_da", "s5_inner_ref, dirac, conj_sym=False, deltaA given", "dirac",
        base + ("d", "delta_a"), False, False)
    h.write()


if __name__ == "__main__":
    main()
