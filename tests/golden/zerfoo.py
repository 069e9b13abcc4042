"""zerfoo.h: golden vectors of zerfoo's MambaBlock, from its formulas (layers/ssm/mamba_block.go).

The source is Go and is not run here. This script follows its published forward formulas in torch
float64, in the default mode (named "ZOH" there: Abar = exp(delta*A), Bbar = delta*B, which is Euler
for B), and takes the gradients by autograd. The source's own backward multiplies the gradient of
A_log by A twice; the vectors hold the right gradient, which is also checked by central differences.

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


def main():
    h = Header("zerfoo", "zerfoo MambaBlock (layers/ssm/mamba_block.go, main of 2026), from its"
               " formulas", SEED, TEXT, "python tests/golden/zerfoo.py")
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
    h.write()


if __name__ == "__main__":
    main()
