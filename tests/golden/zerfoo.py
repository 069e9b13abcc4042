"""zerfoo.h: golden vectors of zerfoo's MambaBlock (layers/ssm/mamba_block.go) and S4 (s4.go),
from their formulas.

The source is Go and is not run here. This script follows its published forward formulas in torch
float64, in the default mode (named "ZOH" there: Abar = exp(delta*A), Bbar = delta*B, which is
Euler for B), and takes the gradients by autograd. The source's own backward multiplies the
gradient of A_log by A twice; the vectors hold the right gradient, which is also checked by
central differences.

    python tests/golden/zerfoo.py

Needs torch.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import torch

SEED = 20240106
TEXT = """
Computed from the published formulas (the source is Go), float64, gradients by autograd.

x, y and dy are (batch, len, model) = (B,L,M). [x|z] = in_proj x (no bias); causal depthwise
convolution with bias, w[d,K-1] multiplying the newest input; SiLU; [dt|B|C] = x_proj u; delta =
softplus(dt_proj dt), with no dt bias; A = -exp(A_log); Abar = exp(delta*A), Bbar = delta*B; y =
C.h + D*u; out = out_proj(y * SiLU(z)). No norm, no residual.

Matrices are (out, in), so y = W x. The source stores the transpose, (in, out).

Gradients are of loss = sum(y*dy). grad_a_log is the true gradient: the source's differs by a
factor A (its sign and size are wrong).

The case `s4` is the layer S4: real and diagonal, per channel d and state n: abar =
exp(-exp(A_log)), without any step size, B not discretised; h = abar*h + B*x; y = sum C*h + D*x. h
is zero first. Its gradients in the source agree. Gradients are of sum(y*dy) + sum(last*dlast)
there (the source has no dlast).
"""


def forward(x, p):
    """The source's loops, in tensors over (batch, channel, state)."""
    e, k = p["conv_weight"].shape
    n = p["a_log"].shape[1]
    rank = p["dt_proj"].shape[1]
    xz = torch.einsum("om,blm->blo", p["in_proj"], x)
    xi, z = xz[..., :e], xz[..., e:]
    padded = torch.nn.functional.pad(xi, (0, 0, k - 1, 0))
    conv = sum(p["conv_weight"][:, j] * padded[:, j:j + x.shape[1]] for j in range(k))
    u = torch.nn.functional.silu(conv + p["conv_bias"])
    dbc = torch.einsum("oe,ble->blo", p["x_proj"], u)
    delta = torch.log(1 + torch.exp(torch.einsum("er,blr->ble", p["dt_proj"], dbc[..., :rank])))
    b, c = dbc[..., rank:rank + n], dbc[..., rank + n:]
    a = -torch.exp(p["a_log"])
    h = torch.zeros(x.shape[0], e, n, dtype=x.dtype)
    ys = []
    for t in range(x.shape[1]):
        d = delta[:, t, :, None]
        h = torch.exp(d * a) * h + d * b[:, t, None, :] * u[:, t, :, None]
        ys.append((h * c[:, t, None, :]).sum(-1) + p["d"] * u[:, t])
    y = torch.stack(ys, 1) * torch.nn.functional.silu(z)
    return torch.einsum("me,ble->blm", p["out_proj"], y), h


def s4(p):
    """The source's Forward: tensors over (batch, channel, state), one time step after another."""
    abar = torch.exp(-torch.exp(p["a_log"]))
    state = torch.zeros(p["x"].shape[0], *abar.shape, dtype=torch.float64)
    ys = []
    for t in range(p["x"].shape[1]):
        u = p["x"][:, t]
        state = abar * state + p["b"] * u[:, :, None]
        ys.append((p["c"] * state).sum(2) + p["d"] * u)
    return torch.stack(ys, 1), state


def s4_backward(p, dy, dlast):
    """The source's Backward, its loops; dlast added."""
    batch, length, dim = p["x"].shape
    n = p["a_log"].shape[1]
    g = {k: torch.zeros_like(v).detach() for k, v in p.items()}
    with torch.no_grad():
        abar = torch.exp(-torch.exp(p["a_log"]))
        for i in range(batch):
            for d in range(dim):
                for k in range(n):
                    a, b, c = abar[d, k], p["b"][d, k], p["c"][d, k]
                    h = [torch.zeros((), dtype=torch.float64)]
                    for t in range(length):
                        h.append(a * h[-1] + b * p["x"][i, t, d])
                    carry = dlast[i, d, k] / a
                    for t in reversed(range(length)):
                        back = dy[i, t, d] * c + carry * a
                        g["c"][d, k] += dy[i, t, d] * h[t + 1]
                        g["b"][d, k] += back * p["x"][i, t, d]
                        g["x"][i, t, d] += back * b
                        g["a_log"][d, k] -= back * h[t] * torch.exp(p["a_log"][d, k]) * a
                        carry = back
                for t in range(length):
                    g["d"][d] += dy[i, t, d] * p["x"][i, t, d]
                    g["x"][i, t, d] += dy[i, t, d] * p["d"][d]
    return g


def s4_case(h, rng):
    batch, length, dim, n = 2, 7, 3, 4
    h.case("s4", "layer S4 (layers/ssm/s4.go)", batch=batch, len=length, dim=dim, state=n)
    p = {"x": rng.normal(batch, length, dim), "a_log": golden.snap(rng.a_log(dim, n) - 1.5),
         "b": rng.normal(dim, n), "c": rng.normal(dim, n),
         "d": rng.normal(dim, scale=0.3, mean=1.0)}
    dy, dlast = rng.normal(batch, length, dim), rng.normal(batch, dim, n)
    p = {key: leaf(v) for key, v in p.items()}
    y, last = s4(p)
    one = torch.ones(batch, dim, length, dtype=torch.float64)  # exp(1*A); "dirac" leaves B alone
    own, own_last = golden.selective_scan(p["x"].transpose(1, 2), one, -torch.exp(p["a_log"]),
                                          p["b"], p["c"], p["d"], kind="dirac")
    check("s4 y", y, own.transpose(1, 2))
    check("s4 last", last, own_last)
    g = grads((y * dy).sum() + (last * dlast).sum(), p)
    own_g = s4_backward(p, dy, dlast)
    layout = {"x": "(B,L,D)", "a_log": "(D,N)", "b": "(D,N)", "c": "(D,N)", "d": "(D)"}
    meaning = {"x": "input", "a_log": "log(-A)", "b": "B", "c": "C", "d": "D, skip"}
    for key in p:
        check("s4 d" + key, g[key], own_g[key], 1e-13)
        h.input(key, p[key], layout[key], meaning[key])
    h.input("dy", dy, "(B,L,D)", "d loss / d y")
    h.input("dlast", dlast, "(B,D,N)", "d loss / d last")
    h.output("y", y, "(B,L,D)", "output")
    h.output("last", last, "(B,D,N)", "state after the last step")
    for key in p:
        h.output("grad_" + key, g[key], layout[key], f"d loss / d {key}")


def main():
    h = Header("zerfoo", "zerfoo MambaBlock and S4 (layers/ssm/mamba_block.go, s4.go, main of"
               " 2026), from their formulas", SEED, TEXT, "python tests/golden/zerfoo.py")
    rng = Rng(SEED)
    for name, batch, length, model, inner, n, rank, k in (("block", 2, 7, 5, 6, 3, 2, 4),):
        h.case(name, "mode ZOH (the default), d_inner given freely", batch=batch, len=length,
               d_model=model, d_inner=inner, d_state=n, dt_rank=rank, d_conv=k)
        p = {"in_proj": rng.normal(2 * inner, model, scale=0.5),
             "conv_weight": rng.normal(inner, k, scale=0.5),
             "conv_bias": rng.normal(inner, scale=0.3),
             "x_proj": rng.normal(rank + 2 * n, inner, scale=0.6),
             "dt_proj": rng.normal(inner, rank, scale=0.8),
             "a_log": rng.a_log(inner, n), "d": rng.normal(inner, scale=0.3, mean=1.0),
             "out_proj": rng.normal(model, inner, scale=0.5)}
        p = {"x": rng.normal(batch, length, model), **p}
        dy = rng.normal(batch, length, model)
        p = {key: leaf(v) for key, v in p.items()}
        y, last = forward(p["x"], p)
        own, own_last = golden.mamba_block(
            p["x"], p["in_proj"], p["conv_weight"], p["conv_bias"], p["x_proj"], p["dt_proj"],
            None, p["a_log"], p["d"], p["out_proj"])
        check(name + " y", y, own)
        check(name + " last", last, own_last)
        g = grads((y * dy).sum(), p)
        own_g = grads((own * dy).sum(), p)
        for key in p:
            check(f"{name} d{key}", g[key], own_g[key], 1e-13)
            with torch.no_grad():
                flat, eps, numeric = p[key].reshape(-1), 1e-5, []
                for i in range(flat.numel()):
                    sides = []
                    for step in (eps, -eps):
                        moved = flat.clone()
                        moved[i] += step
                        q = {**p, key: moved.reshape(p[key].shape)}
                        sides.append(float((forward(q["x"], q)[0] * dy).sum()))
                    numeric.append((sides[0] - sides[1]) / (2 * eps))
                check(f"{name} d{key} by differences",
                      torch.tensor(numeric, dtype=torch.float64).reshape(p[key].shape), g[key],
                      1e-7)
        layout = {"x": "(B,L,M)", "in_proj": "(2E,M)", "conv_weight": "(E,K)", "conv_bias": "(E)",
                  "x_proj": "(R+2N,E)", "dt_proj": "(E,R)", "a_log": "(E,N)", "d": "(E)",
                  "out_proj": "(M,E)"}
        meaning = {"x": "input", "in_proj": "[x|z] projection", "conv_weight": "convolution",
                   "conv_bias": "convolution bias", "x_proj": "[dt|B|C] projection",
                   "dt_proj": "step projection, no bias", "a_log": "log(-A)", "d": "D, skip",
                   "out_proj": "output projection"}
        for key in p:
            h.input(key, p[key], layout[key], meaning[key])
        h.input("dy", dy, "(B,L,M)", "d loss / d y")
        h.output("y", y, "(B,L,M)", "output")
        h.output("last", last, "(B,E,N)", "state after the last step")
        for key in p:
            h.output("grad_" + key, g[key], layout[key], f"d loss / d {key}")
    s4_case(h, rng)
    h.write()


if __name__ == "__main__":
    main()
