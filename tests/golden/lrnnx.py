"""lrnnx.h: golden vectors of lrnnx 1.0.0.post1, lrnnx.ops.selective_scan.selective_scan_ref, with
every discretization it has and with a separate step size for A (deltaA), run in float64.

    pip download --no-deps --no-binary :all: lrnnx==1.0.0.post1   # unpack in DIR, not built
    python tests/golden/lrnnx.py --peers DIR

Needs torch, triton and einops. The CUDA extension is replaced by an empty module.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import importlib
import os

import torch

SEED = 20240104
TEXT = """
u, delta, delta_a, z and out are (batch, dim, len) = (B,D,L); A is (D,N); B and C are (B,N,L), in
the case `const` (D,N), in the case `groups` (B,G,N,L); the state is (B,D,N). The cases named
after a discretization share the inputs of the case `in`.

With d = softplus(delta + bias) and d_A = deltaA where given, else d: mamba: Abar = exp(d_A*A),
Bbar = d*B (Euler). zoh: Abar = exp(d_A*A), Bbar = (exp(d*A) - 1)/A*B. bilinear: Abar = (1 +
d_A*A/2)/(1 - d_A*A/2), Bbar = d/(1 - d*A/2)*B. dirac: Abar = exp(d_A*A), Bbar = B.

deltaA is used as it is: neither delta_bias nor delta_softplus touches it, in the reference
function and in the CUDA kernel alike (the caller applies softplus and the timestep: the Mamba
module passes integration_timesteps*softplus(dtA_proj.bias)). It enters Abar only, never Bbar.

Gradients are of loss = sum(out*dout) + sum(last*dlast), by autograd in float64.
"""
KINDS = {"mamba": "euler", "zoh": "zoh", "bilinear": "bilinear", "dirac": "dirac"}
MEANING = {"u": "input", "delta": "step size before bias and softplus", "a": "A, negative",
           "b": "B", "c": "C", "d": "D, skip", "z": "gate before SiLU", "bias": "delta_bias",
           "delta_a": "deltaA, separate step size of A, used as it is"}


def compute(name, ref, x, kind, softplus, dout, dlast):
    out, last = ref(x["u"], x["delta"], x["a"], x["b"], x["c"], D=x.get("d"), z=x.get("z"),
                    delta_bias=x.get("bias"), deltaA=x.get("delta_a"), delta_softplus=softplus,
                    return_last_state=True, discretization=kind)
    own_out, own_last = golden.selective_scan(
        x["u"], x["delta"], x["a"], x["b"], x["c"], x.get("d"), x.get("z"), x.get("bias"),
        softplus, KINDS[kind], x.get("delta_a"))
    check(name + " out", out, own_out)
    check(name + " last", last, own_last)
    # Under dirac only Abar depends on delta: with delta_a given, delta and bias drop out.
    used = dict(x)
    if kind == "dirac" and "delta_a" in x:
        used.pop("delta")
        used.pop("bias", None)
    g = grads((out * dout).sum() + (last * dlast).sum(), used)
    own = grads((own_out * dout).sum() + (own_last * dlast).sum(), used)
    for k in used:
        check(f"{name} d{k}", g[k], own[k], 1e-13)
    for k in x:
        if k not in g:
            g[k] = torch.zeros_like(x[k])
    return out, last, {k: g[k] for k in x}


def results(h, out, last, g, layout):
    h.output("out", out, "(B,D,L)", "output")
    h.output("last", last, "(B,D,N)", "state after the last step")
    for k, v in g.items():
        h.output("grad_" + k, v, layout[k], f"d loss / d {k}")


def main():
    folder = golden.peers_folder("lrnnx-1.0.0.post1", r"lrnnx-.*")
    golden.bare_package("lrnnx", os.path.join(folder, "lrnnx"))
    golden.bare_package("lrnnx.ops", os.path.join(folder, "lrnnx", "ops"))
    golden.empty_module("selective_scan_cuda")
    golden.import_in_double("lrnnx.ops.selective_scan")
    ref = importlib.import_module("lrnnx.ops.selective_scan").selective_scan_ref
    assert golden.changed_casts("lrnnx.ops.selective_scan") > 0

    h = Header("lrnnx", "lrnnx 1.0.0.post1 (PyPI source archive), selective_scan_ref", SEED, TEXT)
    rng = Rng(SEED)
    batch, dim, n, length = 2, 3, 2, 5
    layout = {"u": "(B,D,L)", "delta": "(B,D,L)", "a": "(D,N)", "b": "(B,N,L)", "c": "(B,N,L)",
              "d": "(D)", "z": "(B,D,L)", "bias": "(D)", "delta_a": "(B,D,L)"}
    x = {"u": rng.normal(batch, dim, length), "delta": rng.normal(batch, dim, length, scale=0.8),
         "a": -rng.uniform(0.2, 3.0, dim, n), "b": rng.normal(batch, n, length),
         "c": rng.normal(batch, n, length), "d": rng.normal(dim),
         "z": rng.normal(batch, dim, length), "bias": rng.uniform(-2.5, 0.5, dim),
         "delta_a": rng.uniform(0.05, 1.2, batch, dim, length)}
    x = {k: leaf(v) for k, v in x.items()}
    dout, dlast = rng.normal(batch, dim, length), rng.normal(batch, dim, n)
    h.case("in", "inputs shared by the cases named after a discretization; variable B and C (one"
           " group), D, z, delta_bias, softplus", batch=batch, dim=dim, state=n, len=length)
    for k in x:
        h.input(k, x[k], layout[k], MEANING[k])
    h.input("dout", dout, "(B,D,L)", "d loss / d out")
    h.input("dlast", dlast, "(B,D,N)", "d loss / d last state")
    for kind in KINDS:
        for with_a in (False, True):
            used = {k: v for k, v in x.items() if with_a or k != "delta_a"}
            name = kind + ("_da" if with_a else "")
            note = f"discretization='{kind}', " + ("deltaA given" if with_a else "no deltaA")
            if kind == "dirac" and with_a:
                note += ": delta and bias have no effect, their gradients are zero"
            h.case(name, note)
            results(h, *compute(name, ref, used, kind, True, dout, dlast), layout)

    for name, note, shape, kind in (
            ("const", "constant B and C (D,N), bilinear, deltaA, D; no z, bias or softplus",
             (3, 2), "bilinear"),
            ("groups", "B and C in 2 groups (B,G,N,L), zoh, deltaA, D; no z, bias or softplus",
             (2, 2, 2, 4), "zoh")):
        dim, length = (3, 5) if name == "const" else (4, 4)
        extra = {"groups": 2} if name == "groups" else {}
        h.case(name, note, batch=batch, dim=dim, state=n, len=length, **extra)
        y = {"u": rng.normal(batch, dim, length),
             "delta": rng.uniform(0.05, 1.0, batch, dim, length),
             "a": -rng.uniform(0.2, 3.0, dim, n), "b": rng.normal(*shape), "c": rng.normal(*shape),
             "d": rng.normal(dim), "delta_a": rng.uniform(0.05, 1.2, batch, dim, length)}
        y = {k: leaf(v) for k, v in y.items()}
        dout, dlast = rng.normal(batch, dim, length), rng.normal(batch, dim, n)
        here = dict(layout, b="(D,N)" if name == "const" else "(B,G,N,L)")
        here["c"] = here["b"]
        for k in y:
            h.input(k, y[k], here[k], "step size, used as it is" if k == "delta" else MEANING[k])
        h.input("dout", dout, "(B,D,L)", "d loss / d out")
        h.input("dlast", dlast, "(B,D,N)", "d loss / d last state")
        results(h, *compute(name, ref, y, kind, False, dout, dlast), here)
    h.write()


if __name__ == "__main__":
    main()
