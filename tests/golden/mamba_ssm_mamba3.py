"""mamba_ssm_mamba3.h: golden vectors of Mamba3 (mamba_ssm at commit e9594ce), run on the CPU in float64.

    python tests/golden/mamba_ssm_mamba3.py --peers DIR       # DIR/mamba: a checkout of that commit

Needs torch and einops. The module's kernels run on a GPU alone: in their place it calls the reference functions of
the package's own tests, mamba3_siso_step_ref and mamba3_MIMO_step_ref, and rms_norm_ref. Only their float32 casts
are changed (to float64), and decorators of kernels that are never called.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import importlib.util
import math
import os
import sys
import types

import torch

SEED = 20260315
TEXT = """
in_proj gives [z | x | B | C | dt | A | trap | angle]; the module itself computes delta, A, the norms of B and C, and
out_proj; the recurrence is that of the reference functions of its tests, from zero states.

The kernels of a MIMO block turn the states i and N/2 + i by angle i, as the module expects; their reference function
turns 2i and 2i + 1. It gets B, C and their biases with the states so ordered, and its states are put back.

`state` is (B, count): theta (H,S); s (N,H,P); k (H,r,N); x (H,P), x before mimo_x, each one flattened.

Gradients are of loss = sum(y*dy) + sum(state*dlast), by autograd in float64.
"""


class Anything:
    """Stands for triton and the kernels: any attribute, any decorator."""

    def __getattr__(self, name):
        return Anything()

    def __call__(self, *args, **kwargs):
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else self

    def __getitem__(self, key):
        return self


class AnyModule(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        return Anything()


def stand_in(*names):
    for name in names:
        sys.modules[name] = AnyModule(name)


def load(name, path):
    """A file as a module, through the finder that turns float32 into float64."""
    loader = golden._DoubleLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader, origin=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    assert golden.changed_casts(name) > 0, name
    return module


def packages(root):
    """The module, and the two reference functions."""
    stand_in("triton", "triton.language", "pytest", "mamba_ssm.ops.triton.mamba3",
             "mamba_ssm.ops.triton.mamba3.mamba3_siso_combined", "mamba_ssm.ops.triton.mamba3.mamba3_siso_step",
             "mamba_ssm.ops.triton.mamba3.mamba3_mimo_rotary_step", "mamba_ssm.ops.tilelang",
             "mamba_ssm.ops.tilelang.mamba3", "mamba_ssm.ops.tilelang.mamba3.mamba3_mimo", "mamba_ssm.ops.cute",
             "mamba_ssm.ops.cute.mamba3", "mamba_ssm.ops.cute.mamba3.mamba3_step_fn")
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "mamba_ssm.modules", "mamba_ssm.utils"):
        golden.bare_package(name, os.path.join(root, *name.split(".")))
    sys.modules["mamba_ssm.utils.torch"] = AnyModule("mamba_ssm.utils.torch")
    norm = load("mamba_ssm.ops.triton.layernorm_gated",
                os.path.join(root, "mamba_ssm/ops/triton/layernorm_gated.py"))
    m3 = load("mamba_ssm.modules.mamba3", os.path.join(root, "mamba_ssm/modules/mamba3.py"))
    siso = load("siso_tests", os.path.join(root, "tests/ops/triton/test_mamba3_siso.py"))
    mimo = load("mimo_tests", os.path.join(root, "tests/ops/tilelang/test_mamba3_mimo.py"))

    class Norm(torch.nn.Module):
        def __init__(self, size, eps=1e-5, group_size=None, norm_before_gate=True, device=None, dtype=None):
            super().__init__()
            self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
            self.weight = torch.nn.Parameter(torch.ones(size))

        def forward(self, x, z=None):
            return norm.rms_norm_ref(x, self.weight, None, z, self.eps, self.group_size, self.norm_before_gate,
                                     upcast=False)

    m3.RMSNormGated = Norm
    return m3, siso.mamba3_siso_step_ref, mimo.mamba3_MIMO_step_ref


def flat(theta, s, k, x):
    """Final states of the reference functions, (B,H,S) (B,H,P,N) (B,H,r,N) (B,H,P), as `state`."""
    batch = theta.shape[0]
    return torch.cat([t.reshape(batch, -1) for t in (theta, s.permute(0, 3, 1, 2), k, x)], 1)


class Kernels:
    """What the module calls in place of its kernels; keeps the last states."""

    def __init__(self, siso, mimo):
        self.siso_ref, self.mimo_ref = siso, mimo

    def siso(self, Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, D, Z, **_):
        y, (theta, s, k, x) = self.siso_ref(Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, D, Z)
        self.state = flat(theta, s, k[:, :, None], x)
        return y

    def mimo(self, Q, K, V, ADT, DT, Trap, Q_bias, K_bias, MIMO_V, MIMO_Z, MIMO_Out, Angles, D, Z,
             fuse_pregate_headwise_rms_norm, outproj_norm_weight, outproj_norm_eps, **_):
        n, heads, p = Q.shape[-1], V.shape[2], V.shape[3]
        order = torch.arange(n).reshape(2, n // 2).T.reshape(-1) # 0, N/2, 1, N/2 + 1, ..
        back = torch.argsort(order)
        weight = outproj_norm_weight.reshape(heads, p) if fuse_pregate_headwise_rms_norm else None
        y, (theta, s, k, _) = self.mimo_ref(
            Q[..., order], K[..., order], V, ADT, DT, Trap, Q_bias[..., order], K_bias[..., order], Angles, MIMO_V,
            MIMO_Out, D, Z, MIMO_Z, None, fuse_pregate_headwise_rms_norm, weight, outproj_norm_eps)
        theta = theta - 2 * math.pi * torch.floor(theta / (2 * math.pi)) # as the kernels
        self.state = flat(theta, s[..., back], k[..., back], V[:, -1])
        return y


def own_block(u, p, heads, headdim, n, groups, ranks, is_mimo, angles, a_floor=1e-4, eps=1e-5):
    """Mamba-3 written plainly: one sequence, one step, one head after the other."""
    batch, length, _ = u.shape
    e, shared = heads * headdim, ranks * groups * n

    def rms(x, w):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w

    def turned(x, theta):
        x = x.clone()
        half = n // 2
        re = slice(0, angles) if is_mimo else slice(0, 2 * angles, 2)
        im = slice(half, half + angles) if is_mimo else slice(1, 2 * angles, 2)
        a, b, c, s = x[..., re].clone(), x[..., im].clone(), torch.cos(theta), torch.sin(theta)
        x[..., re], x[..., im] = a * c - b * s, a * s + b * c
        return x

    out, last = [], []
    for b in range(batch):
        theta = [torch.zeros(angles, dtype=u.dtype) for _ in range(heads)]
        h = [torch.zeros(headdim, n, dtype=u.dtype) for _ in range(heads)]
        k_last = [torch.zeros(ranks, n, dtype=u.dtype) for _ in range(heads)]
        x_last = [torch.zeros(headdim, dtype=u.dtype) for _ in range(heads)]
        for t in range(length):
            z, x, B, C, dt, a, trap, angle = (p["in_proj.weight"] @ u[b, t]).split(
                [e, e, shared, shared, heads, heads, heads, angles])
            B, C = (rms(m.reshape(ranks, groups, n), p[w]) for m, w in ((B, "B_norm.weight"), (C, "C_norm.weight")))
            row = []
            for j in range(heads):
                ch = slice(j * headdim, (j + 1) * headdim)
                delta = torch.log1p(torch.exp(dt[j] + p["dt_bias"][j]))
                f = 1 + a[j] if a[j] >= 0 else 1 / (1 - a[j])
                alpha = torch.exp(-delta * torch.clamp(f, min=a_floor))
                lam = 1 / (1 + torch.exp(-trap[j]))
                theta[j] = torch.remainder(theta[j] + math.pi * torch.tanh(angle) * delta, 2 * math.pi)
                g = j * groups // heads
                k = turned(B[:, g] + p["B_bias"][j], theta[j])
                q = turned(C[:, g] + p["C_bias"][j], theta[j])
                up = p["mimo_x"][j] if is_mimo else torch.ones(1, headdim, dtype=u.dtype)
                h[j] = alpha * h[j] + (1 - lam) * delta * alpha * (up * x_last[j]).T @ k_last[j] \
                    + lam * delta * (up * x[ch]).T @ k
                y = q @ h[j].T + p["D"][j] * up * x[ch]
                if "norm.weight" in p:
                    y = rms(y, p["norm.weight"][ch])
                gate = z[ch] * p["mimo_z"][j] if is_mimo else z[ch]
                y = y * gate / (1 + torch.exp(-gate))
                row.append((y * p["mimo_o"][j]).sum(0) if is_mimo else y[0])
                k_last[j], x_last[j] = k, x[ch]
            out.append(p["out_proj.weight"] @ torch.cat(row))
        last.append(flat(*(torch.stack(v)[None] for v in (theta, h, k_last, x_last)))[0])
    return torch.stack(out).reshape(batch, length, -1), torch.stack(last)


def fill(rng, m):
    with torch.no_grad():
        for name, p in m.named_parameters():
            if name == "dt_bias":
                value = rng.uniform(-2.0, 0.5, *p.shape)
            elif name in ("D", "mimo_z", "B_bias", "C_bias") or "norm" in name:
                value = rng.normal(*p.shape, scale=0.3, mean=1.0)
            elif name in ("mimo_x", "mimo_o"):
                value = rng.normal(*p.shape, scale=0.3, mean=1 / p.shape[1])
            else:
                value = rng.normal(*p.shape, scale=1.2 / math.sqrt(p.shape[1]))
            p.copy_(value)


def case(h, rng, m3, kernels, name, note, heads, headdim, n, length, groups=1, ranks=0, rope=0.5, norm=False):
    batch, model = 2, 8
    m = m3.Mamba3(model, n, heads * headdim // model, headdim, groups, rope, is_outproj_norm=norm, is_mimo=ranks > 0,
                  mimo_rank=ranks).double()
    fill(rng, m)
    p = dict(m.named_parameters())
    angles = m.num_rope_angles
    x, dy = leaf(rng.normal(batch, length, model)), rng.normal(batch, length, model)
    y = m(x)
    last = kernels.state
    dlast = rng.normal(*last.shape)
    own, own_last = own_block(x, p, heads, headdim, n, groups, max(1, ranks), ranks > 0, angles)
    check(name + " y", y, own, 1e-13)
    check(name + " state", last, own_last, 1e-13)
    g = grads((y * dy).sum() + (last * dlast).sum(), {"x": x, **p})
    own_g = grads((own * dy).sum() + (own_last * dlast).sum(), {"x": x, **p})
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], 1e-12)
    h.case(name, note, batch=batch, len=length, d_model=model, d_inner=heads * headdim, headdim=headdim, groups=groups,
           d_state=n, states=last.shape[1], rank=ranks)
    h.input("x", x, "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    h.input("dlast", dlast, "(B,count)", "d loss / d state")
    h.parameters(m)
    h.output("y", y, "(B,L,M)", "output")
    h.output("state", last, "(B,count)", "states after the last step")
    for k, v in g.items():
        h.output("grad_" + k, v, "(B,L,M)" if k == "x" else "", f"d loss / d {k}")


def main():
    m3, siso, mimo = packages(golden.peers_folder("mamba", r"mamba"))
    kernels = Kernels(siso, mimo)
    m3.mamba3_siso_combined, m3.mamba3_mimo_combined = kernels.siso, kernels.mimo
    h = Header("mamba_ssm_mamba3", "mamba_ssm (state-spaces/mamba e9594ce), Mamba3", SEED, TEXT)
    rng = Rng(SEED)
    case(h, rng, m3, kernels, "siso", "one rank, half of the states turned", 4, 4, 6, 9)
    case(h, rng, m3, kernels, "groups", "two groups, all states turned, the norm over each head", 4, 6, 6, 7, 2, 0, 1.0,
         True)
    case(h, rng, m3, kernels, "mimo", "four ranks", 2, 8, 8, 7, 1, 4)
    case(h, rng, m3, kernels, "mimo_norm", "two ranks, two groups, all states turned, the norm over each head", 4, 4, 6, 6,
         2, 2, 1.0, True)
    h.write()


if __name__ == "__main__":
    main()
