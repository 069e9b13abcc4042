"""mamba_ssm.h: golden vectors of mamba-ssm 2.3.2.post1 (selective_scan_ref,
selective_state_update_ref, module Mamba), run on the CPU in float64.

    pip download --no-deps --no-binary :all: mamba-ssm==2.3.2.post1   # unpack in DIR, not built
    python tests/golden/mamba_ssm.py --peers DIR

Needs torch, triton and einops. The CUDA extension is replaced by an empty module; the reference
functions never call it.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import importlib

import torch

SEED = 20240101
TEXT = """
Layouts are those of the published functions: u, delta, z, out are (batch, dim, len) = (B,D,L); A
is (D,N); B and C are (D,N) constant, (B,N,L) variable or (B,G,N,L) grouped, channel d using group
floor(d / (D/G)); the state is (B,D,N).

Gradients are of loss = sum(out*dout) + sum(last*dlast), by autograd in float64, so dlast counts
(the published CUDA backward ignores it).

The published CUDA forward gives a wrong last state for constant B; these vectors follow the
reference function, which is right.

delta is before bias and softplus; with softplus off, delta is positive and used as it is.
"""


def scan_case(h, rng, ref, name, note, batch, dim, n, length, b_kind, c_kind, groups=0,
              with_d=False, with_z=False, with_bias=False, softplus=False):
    dims = dict(batch=batch, dim=dim, state=n, len=length)
    if groups:
        dims["groups"] = groups
    dims["softplus"] = int(softplus)
    h.case(name, note, **dims)
    shapes = {"constant": (dim, n), "variable": (batch, n, length),
              "grouped": (batch, groups, n, length)}
    layouts = {"constant": "(D,N)", "variable": "(B,N,L)", "grouped": "(B,G,N,L)"}
    x = {}
    x["u"] = rng.normal(batch, dim, length)
    if softplus:
        x["delta"] = rng.normal(batch, dim, length, scale=0.8)
    else:
        x["delta"] = rng.uniform(0.05, 1.0, batch, dim, length)
    x["a"] = -rng.uniform(0.2, 3.0, dim, n)
    x["b"] = rng.normal(*shapes[b_kind])
    x["c"] = rng.normal(*shapes[c_kind])
    if with_d:
        x["d"] = rng.normal(dim)
    if with_z:
        x["z"] = rng.normal(batch, dim, length)
    if with_bias:
        x["bias"] = rng.uniform(-2.5, 0.5, dim)
    x = {k: leaf(v) for k, v in x.items()}
    dout = rng.normal(batch, dim, length)
    dlast = rng.normal(batch, dim, n)

    out, last = ref(x["u"], x["delta"], x["a"], x["b"], x["c"], D=x.get("d"), z=x.get("z"),
                    delta_bias=x.get("bias"), delta_softplus=softplus, return_last_state=True)
    own_out, own_last = golden.selective_scan(x["u"], x["delta"], x["a"], x["b"], x["c"],
                                              x.get("d"), x.get("z"), x.get("bias"), softplus)
    check(name + " out", out, own_out)
    check(name + " last", last, own_last)
    g = grads((out * dout).sum() + (last * dlast).sum(), x)
    own = grads((own_out * dout).sum() + (own_last * dlast).sum(), x)
    for k in x:
        check(f"{name} d{k}", g[k], own[k], 1e-13)

    layout = {"u": "(B,D,L)", "delta": "(B,D,L)", "a": "(D,N)", "b": layouts[b_kind],
              "c": layouts[c_kind], "d": "(D)", "z": "(B,D,L)", "bias": "(D)"}
    meaning = {"u": "input", "delta": "step size before bias and softplus" if softplus else
               "step size, used as it is", "a": "A, negative", "b": "B", "c": "C", "d": "D, skip",
               "z": "gate before SiLU", "bias": "delta_bias"}
    for k in x:
        h.input(k, x[k], layout[k], meaning[k])
    h.input("dout", dout, "(B,D,L)", "d loss / d out")
    h.input("dlast", dlast, "(B,D,N)", "d loss / d last state")
    h.output("out", out, "(B,D,L)", "output")
    h.output("last", last, "(B,D,N)", "state after the last step")
    for k in x:
        h.output("grad_" + k, g[k], layout[k], f"d loss / d {k}")


def update_case(h, rng, ref, name, note, batch, heads, groups, dim, n, steps):
    dims = dict(batch=batch, dim=dim, state=n, steps=steps)
    if heads:
        dims.update(heads=heads, groups=groups)
    h.case(name, note, **dims)
    hd = (heads, dim) if heads else (dim,)
    hl = "H,D" if heads else "D"
    gl = "G,N" if heads else "N"
    bc = (groups, n) if heads else (n,)
    state0 = rng.normal(batch, *hd, n)
    a = -rng.uniform(0.2, 3.0, *hd, n)
    d, bias = rng.normal(*hd), rng.uniform(-2.5, 0.5, *hd)
    x, z = rng.normal(steps, batch, *hd), rng.normal(steps, batch, *hd)
    dt = rng.normal(steps, batch, *hd, scale=0.8)
    b, c = rng.normal(steps, batch, *bc), rng.normal(steps, batch, *bc)
    state = state0.clone()
    outs = [ref(state, x[t], dt[t], a, b[t], c[t], D=d, z=z[t], dt_bias=bias, dt_softplus=True)
            for t in range(steps)]
    out = torch.stack(outs)

    # The same through the plain scan: heads and channels flattened, B and C given per group.
    flat = batch, (heads or 1) * dim
    own_out, own_state = golden.selective_scan(
        x.reshape(steps, *flat).permute(1, 2, 0), dt.reshape(steps, *flat).permute(1, 2, 0),
        a.reshape(-1, n), b.reshape(steps, batch, -1, n).permute(1, 2, 3, 0),
        c.reshape(steps, batch, -1, n).permute(1, 2, 3, 0), d.reshape(-1),
        z.reshape(steps, *flat).permute(1, 2, 0), bias.reshape(-1), True,
        h0=state0.reshape(*flat, n))
    check(name + " out", out, own_out.permute(2, 0, 1).reshape(out.shape))
    check(name + " state", state, own_state.reshape(state.shape))

    h.input("state0", state0, f"(B,{hl},N)", "state before the first step")
    h.input("x", x, f"(T,B,{hl})", "input of each step")
    h.input("dt", dt, f"(T,B,{hl})", "step size before bias and softplus")
    h.input("a", a, f"({hl},N)", "A, negative")
    h.input("b", b, f"(T,B,{gl})", "B of each step")
    h.input("c", c, f"(T,B,{gl})", "C of each step")
    h.input("d", d, f"({hl})", "D, skip")
    h.input("z", z, f"(T,B,{hl})", "gate before SiLU")
    h.input("bias", bias, f"({hl})", "dt_bias")
    h.output("out", out, f"(T,B,{hl})", "output of each step")
    h.output("state", state, f"(B,{hl},N)", "state after the last step")


def module_case(h, rng, Mamba):
    batch, length, model, n, k = 2, 9, 8, 4, 4
    m = Mamba(d_model=model, d_state=n, d_conv=k, expand=2, use_fast_path=False).double()
    rng.fill(m)
    h.case("block", "module Mamba(d_model=8, d_state=4, d_conv=4, expand=2), dt_rank auto = 1; x,"
           " y and dy are (batch, len, d_model). in_proj gives [x|z], x_proj gives [dt|B|C];"
           " conv1d.weight[d,0,K-1] multiplies the newest input. step() over the same sequence"
           " was asserted equal to forward; conv_state and ssm_state are what step() leaves",
           batch=batch, len=length, d_model=model, d_inner=2 * model, d_state=n, d_conv=k,
           dt_rank=m.dt_rank)
    x = leaf(rng.normal(batch, length, model))
    dy = rng.normal(batch, length, model)
    y = m(x)
    p = dict(m.named_parameters())
    own, own_last = golden.mamba_block(
        x, p["in_proj.weight"], p["conv1d.weight"][:, 0], p["conv1d.bias"], p["x_proj.weight"],
        p["dt_proj.weight"], p["dt_proj.bias"], p["A_log"], p["D"], p["out_proj.weight"])
    check("block y", y, own)
    g = grads((y * dy).sum(), {"x": x, **p})
    own_g = grads((own * dy).sum(), {"x": x, **p})
    for name in g:
        check("block d" + name, g[name], own_g[name], 1e-13)
    with torch.no_grad():
        conv = torch.zeros(batch, 2 * model, k, dtype=torch.float64)
        state = torch.zeros(batch, 2 * model, n, dtype=torch.float64)
        steps = [m.step(x[:, t:t + 1], conv, state)[0] for t in range(length)]
    check("block step", torch.cat(steps, 1), y)
    check("block state", state, own_last)

    h.input("x", x, "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    h.parameters(m)
    h.output("y", y, "(B,L,M)", "output, of forward and of step alike")
    h.output("conv_state", conv, "(B,E,K)", "last K inputs of the convolution, oldest first")
    h.output("ssm_state", state, "(B,E,N)", "state after the last step")
    for name, v in g.items():
        h.output("grad_" + name, v, "(B,L,M)" if name == "x" else "", f"d loss / d {name}")


def main():
    golden.mamba_ssm_source()
    names = ["mamba_ssm.ops.selective_scan_interface",
             "mamba_ssm.ops.triton.selective_state_update", "mamba_ssm.modules.mamba_simple"]
    golden.import_in_double(*names)
    scan, update, simple = [importlib.import_module(n) for n in names]
    assert golden.changed_casts(names[0]) > 0 and golden.changed_casts(names[2]) > 0
    simple.selective_scan_fn = scan.selective_scan_ref
    simple.selective_state_update = None

    h = Header("mamba_ssm", "mamba-ssm 2.3.2.post1 (PyPI source archive), reference functions and"
               " module Mamba", SEED, TEXT)
    rng = Rng(SEED)
    ref = scan.selective_scan_ref
    scan_case(h, rng, ref, "full", "variable B and C (one group), D, z, delta_bias, softplus",
              2, 5, 3, 7, "variable", "variable", 0, True, True, True, True)
    scan_case(h, rng, ref, "groups", "two groups of B and C, D, z, delta_bias, softplus",
              2, 6, 3, 5, "grouped", "grouped", 2, True, True, True, True)
    scan_case(h, rng, ref, "constant", "constant B and C, D, no z, no bias, no softplus",
              2, 5, 3, 7, "constant", "constant", 0, True)
    scan_case(h, rng, ref, "minimal", "variable B and C; no D, z, bias or softplus",
              2, 5, 3, 7, "variable", "variable")
    scan_case(h, rng, ref, "mixed", "constant B, variable C, D, delta_bias, softplus, no z",
              2, 5, 3, 7, "constant", "variable", 0, True, False, True, True)
    update_case(h, rng, update.selective_state_update_ref, "update",
                "selective_state_update_ref, 4 steps (T) from a given state, D, z, dt_bias,"
                " softplus", 2, 0, 0, 5, 3, 4)
    update_case(h, rng, update.selective_state_update_ref, "heads",
                "selective_state_update_ref with heads (H) and groups (G) of B and C, 4 steps (T)",
                2, 4, 2, 3, 3, 4)
    module_case(h, rng, simple.Mamba)
    h.write()


if __name__ == "__main__":
    main()
