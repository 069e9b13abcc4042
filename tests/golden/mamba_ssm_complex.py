"""mamba_ssm_complex.h: golden vectors of mamba-ssm 2.3.2.post1's selective_scan_ref and mamba_inner_ref
with complex A, run on the CPU in float64.

    pip download --no-deps --no-binary :all: mamba-ssm==2.3.2.post1   # unpack in DIR, not built
    python tests/golden/mamba_ssm_complex.py --peers DIR

Needs torch and einops. The CUDA extensions are replaced by an empty module and a plain convolution;
the reference functions never call them.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import importlib

import torch

SEED = 20240131
TEXT = """
Layouts are those of the published function: u, delta, z, out are (batch, dim, len) = (B,D,L); A is
complex (D,N); B and C are complex (D,N) if constant, else real (B,N,2L) or (B,G,N,2L), the last axis
being L pairs (re, im), channel d using group floor(d / (D/G)); the state is complex (B,D,N). Complex
arrays are printed as pairs, with a last axis of 2.

y = 2 Re(sum_n C h) + D u, then the gate.

Gradients are of loss = sum(out*dout) + sum(last*dlast), the latter over real and imaginary parts, by
autograd in float64; that of a complex number is d/dRe + i d/dIm.

delta is before bias and softplus; with softplus off, delta is positive and used as it is.

inner: [x|z] = in_proj of the input, then mamba_inner_ref with A = -exp(A_log) + i A_imag; x, y, dy are
(batch, len, d_model); x_proj gives [dt|B|C], B and C being pairs (re, im).
"""


def pairs(t):
    """As it is printed."""
    return torch.view_as_real(t) if t.is_complex() else t


def complex_leaf(re, im):
    return torch.complex(re, im).requires_grad_(True)


def coefficient(rng, kind, batch, dim, n, length, groups):
    """B or C: a leaf, its layout, and the same as complex numbers for the plain scan."""
    if kind == "constant":
        x = complex_leaf(rng.normal(dim, n), rng.normal(dim, n))
        return x, "(D,N,2)", x
    x = leaf(rng.normal(*((batch, groups, n, 2 * length) if groups else (batch, n, 2 * length))))
    numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], length, 2))
    return x, "(B,G,N,2L)" if groups else "(B,N,2L)", numbers


def scan_case(h, rng, ref, name, note, batch, dim, n, length, b_kind, c_kind, groups=0, options="",
              softplus=False):
    dims = dict(batch=batch, dim=dim, state=n, len=length)
    if groups:
        dims["groups"] = groups
    dims["softplus"] = int(softplus)
    h.case(name, note, **dims)
    x = {}
    layout = {"u": "(B,D,L)", "delta": "(B,D,L)", "a": "(D,N,2)", "d": "(D)", "z": "(B,D,L)",
              "bias": "(D)"}
    x["u"] = leaf(rng.normal(batch, dim, length))
    if softplus:
        x["delta"] = leaf(rng.normal(batch, dim, length, scale=0.8))
    else:
        x["delta"] = leaf(rng.uniform(0.05, 1.0, batch, dim, length))
    x["a"] = complex_leaf(-rng.uniform(0.2, 3.0, dim, n), rng.uniform(-4.0, 4.0, dim, n))
    x["b"], layout["b"], b = coefficient(rng, b_kind, batch, dim, n, length, groups)
    x["c"], layout["c"], c = coefficient(rng, c_kind, batch, dim, n, length, groups)
    if "d" in options:
        x["d"] = leaf(rng.normal(dim))
    if "z" in options:
        x["z"] = leaf(rng.normal(batch, dim, length))
    if "bias" in options:
        x["bias"] = leaf(rng.uniform(-2.5, 0.5, dim))
    dout = rng.normal(batch, dim, length)
    dlast = rng.normal(batch, dim, n, 2)

    out, last = ref(x["u"], x["delta"], x["a"], x["b"], x["c"], D=x.get("d"), z=x.get("z"),
                    delta_bias=x.get("bias"), delta_softplus=softplus, return_last_state=True)
    own_out, own_last = golden.selective_scan(x["u"], x["delta"], x["a"], b, c, x.get("d"),
                                              x.get("z"), x.get("bias"), softplus)
    check(name + " out", out, own_out)
    check(name + " last", pairs(last), pairs(own_last))
    g = grads((out * dout).sum() + (pairs(last) * dlast).sum(), x)
    own = grads((own_out * dout).sum() + (pairs(own_last) * dlast).sum(), x)
    for k in x:
        check(f"{name} d{k}", pairs(g[k]), pairs(own[k]), 1e-13)

    meaning = {"u": "input", "delta": "step size before bias and softplus" if softplus else
               "step size, used as it is", "a": "A, real parts negative", "b": "B", "c": "C",
               "d": "D, skip", "z": "gate before SiLU", "bias": "delta_bias"}
    for k in x:
        h.input(k, pairs(x[k]), layout[k], meaning[k])
    h.input("dout", dout, "(B,D,L)", "d loss / d out")
    h.input("dlast", dlast, "(B,D,N,2)", "d loss / d last state")
    h.output("out", out, "(B,D,L)", "output")
    h.output("last", pairs(last), "(B,D,N,2)", "state after the last step")
    for k in x:
        h.output("grad_" + k, pairs(g[k]), layout[k], f"d loss / d {k}")


def plain_conv(x, weight, bias, activation):
    """causal_conv1d_fn."""
    assert activation == "silu"
    k = weight.shape[1]
    padded = torch.nn.functional.pad(x, (k - 1, 0))
    c = sum(weight[:, j, None] * padded[..., j:j + x.shape[-1]] for j in range(k)) + bias[:, None]
    return c * torch.sigmoid(c)


def inner_case(h, rng, module, name):
    batch, length, model, n, k, r = 2, 9, 6, 3, 4, 2
    e = 2 * model
    h.case(name, "mamba_inner_ref behind an in_proj, B and C variable",
           batch=batch, len=length, d_model=model, d_inner=e, d_state=n, d_conv=k, dt_rank=r)
    p = {"x": leaf(rng.normal(batch, length, model)),
         "in_proj.weight": leaf(rng.normal(2 * e, model, scale=0.4)),
         "conv1d.weight": leaf(rng.normal(e, 1, k, scale=0.5)), "conv1d.bias": leaf(rng.normal(e, scale=0.5)),
         "x_proj.weight": leaf(rng.normal(r + 4 * n, e, scale=0.3)),
         "dt_proj.weight": leaf(rng.normal(e, r, scale=0.5)), "dt_proj.bias": leaf(rng.uniform(-2.5, 0.5, e)),
         "A_log": leaf(rng.uniform(-1.0, 1.0, e, n)), "A_imag": leaf(rng.uniform(-4.0, 4.0, e, n)),
         "D": leaf(rng.normal(e)), "out_proj.weight": leaf(rng.normal(model, e, scale=0.3))}
    dy = rng.normal(batch, length, model)

    def start():
        return torch.complex(-torch.exp(p["A_log"]), p["A_imag"]), torch.einsum("blm,em->bel", p["x"], p["in_proj.weight"])

    A, xz = start()
    y = module.mamba_inner_ref(xz, p["conv1d.weight"], p["conv1d.bias"], p["x_proj.weight"], p["dt_proj.weight"],
                               p["out_proj.weight"], None, A, None, None, p["D"], delta_bias=p["dt_proj.bias"])

    A, xz = start()
    u = plain_conv(xz[:, :e], p["conv1d.weight"][:, 0], p["conv1d.bias"], "silu")
    dbc = torch.einsum("bel,oe->bol", u, p["x_proj.weight"])
    numbers = [torch.complex(dbc[:, i:i + 2 * n:2], dbc[:, i + 1:i + 2 * n:2]) for i in (r, r + 2 * n)]
    own, _ = golden.selective_scan(u, torch.einsum("brl,er->bel", dbc[:, :r], p["dt_proj.weight"]), A, *numbers,
                                   D=p["D"], z=xz[:, e:], bias=p["dt_proj.bias"], softplus=True)
    own = torch.einsum("bel,me->blm", own, p["out_proj.weight"])
    check(name + " y", y, own)
    g = grads((y * dy).sum(), p)
    own_g = grads((own * dy).sum(), p)
    for key in p:
        check(f"{name} d{key}", g[key], own_g[key], 1e-13)

    h.input("x", p["x"], "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    for key in p:
        if key != "x":
            h.input(key, p[key], "", f"parameter `{key}`")
    h.output("y", y, "(B,L,M)", "output")
    for key, v in g.items():
        h.output("grad_" + key, v, "(B,L,M)" if key == "x" else "", f"d loss / d {key}")


def main():
    golden.mamba_ssm_source()
    name = "mamba_ssm.ops.selective_scan_interface"
    golden.import_in_double(name)
    module = importlib.import_module(name)
    ref = module.selective_scan_fn = module.selective_scan_ref
    module.causal_conv1d_fn = plain_conv
    assert golden.changed_casts(name) > 0

    h = Header("mamba_ssm_complex", "mamba-ssm 2.3.2.post1 (PyPI source archive),"
               " selective_scan_ref and mamba_inner_ref with complex A", SEED, TEXT)
    rng = Rng(SEED)
    scan_case(h, rng, ref, "full", "variable B and C (one group), D, z, delta_bias, softplus",
              2, 5, 3, 7, "variable", "variable", 0, "d z bias", True)
    scan_case(h, rng, ref, "groups", "two groups of B and C, D, z, delta_bias, softplus",
              2, 6, 3, 5, "grouped", "grouped", 2, "d z bias", True)
    scan_case(h, rng, ref, "constant", "constant B and C, D, no z, no bias, no softplus",
              2, 5, 3, 7, "constant", "constant", 0, "d")
    scan_case(h, rng, ref, "mixed", "constant B, variable C, D, delta_bias, softplus, no z",
              2, 5, 3, 7, "constant", "variable", 0, "d bias", True)
    inner_case(h, rng, module, "inner")
    h.write()


if __name__ == "__main__":
    main()
