"""Shared helper of the golden-vector scripts of S4, S4D and S5: complex tensors, HiPPO, plain
recurrences. Everything is float64 / complex128; see golden.py for the rules.

Complex arrays are written interleaved, (re, im) last. A gradient by a complex tensor is PyTorch's:
d loss / d re + i * d loss / d im, that is, the two plain derivatives, interleaved.
"""

import numpy as np
import torch

from golden import check, snap

CONVENTION = """
Complex arrays are interleaved: the last size, 2, is (re, im). Gradients by complex tensors are
d loss/d re + i d loss/d im (PyTorch), so the two parts are the plain derivatives. H channels,
P or N states.
"""


def complex_normal(rng, *shape, scale=1.0):
    return torch.complex(rng.normal(*shape, scale=scale), rng.normal(*shape, scale=scale))


def snap_complex(t):
    t = torch.as_tensor(t, dtype=torch.complex128)
    return torch.complex(snap(t.real), snap(t.imag))


def leaf(t):
    """A copy that collects a gradient, float64 or complex128."""
    t = t.detach().clone()
    return t.to(torch.complex128 if t.is_complex() else torch.float64).requires_grad_(True)


def flat(t):
    """The real view of a complex tensor (a real one as it is)."""
    return torch.view_as_real(t.detach().resolve_conj()) if t.is_complex() else t.detach()


def close(name, got, want, tol=2e-14):
    got, want = flat(got), flat(want)
    assert got.dtype == want.dtype == torch.float64, (name, got.dtype, want.dtype)
    return check(name, got, want, tol)


def layout_of(t, layout):
    return layout[:-1] + ",2)" if t.is_complex() else layout


def put_in(h, name, t, layout, meaning):
    h.input(name, flat(t), layout_of(t, layout), meaning)


def put_out(h, name, t, layout, meaning):
    assert t.dtype in (torch.float64, torch.complex128), (name, t.dtype)
    h.output(name, flat(t), layout_of(t, layout), meaning)


def inner(a, b):
    """sum over re and im of a*b: the real inner product."""
    return (torch.view_as_real(a) * flat(b)).sum() if a.is_complex() else (a * b).sum()


def grads(loss, tensors):
    """Gradients by a dict of leaves; zeros for one that loss does not depend on."""
    found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return {k: torch.zeros_like(v) if g is None else g
            for (k, v), g in zip(tensors.items(), found)}


def differences(name, loss_of, tensors, g, tol=1e-6, eps=1e-5):
    """Check gradients by central differences; loss_of maps a dict of tensors to a scalar."""
    with torch.no_grad():
        for key, value in tensors.items():
            parts = flat(value).clone()
            numeric = torch.zeros_like(parts)
            for i in range(parts.numel()):
                sides = []
                for step in (eps, -eps):
                    moved = parts.clone()
                    moved.view(-1)[i] += step
                    if value.is_complex():
                        moved = torch.view_as_complex(moved)
                    sides.append(float(loss_of({**tensors, key: moved})))
                numeric.view(-1)[i] = (sides[0] - sides[1]) / (2 * eps)
            check(f"{name} d{key} by differences", numeric, flat(g[key]), tol)


# ---------------------------------------------------------------------------- recurrences

def discretize(kind, delta, a, delta_a=None):
    """(Abar, gamma) for one method; delta_a, where given, replaces delta in Abar only."""
    da = delta * a if delta_a is None else delta_a * a
    db = delta * a
    if kind == "zoh":
        half = torch.exp(db / 2)
        return torch.exp(da), 2 * half * torch.sinh(db / 2) / a
    if kind == "bilinear":
        return (2 + da) / (2 - da), 2 * delta / (2 - db)
    if kind == "dirac":
        return torch.exp(da), torch.ones_like(da)
    raise ValueError(kind)


def shared_scan(u, delta, a, b, c, kind, delta_a=None, x0=None):
    """One state of P values for all channels, by loops: u (B,H,L), delta (B,P,L), a (P), b (P,H),
    c (H,P); returns the complex y (B,H,L) and the last state (B,P)."""
    batch, _, length = u.shape
    ys, last = [], []
    for i in range(batch):
        x = torch.zeros_like(a) if x0 is None else x0[i]
        for t in range(length):
            abar, gamma = discretize(kind, delta[i, :, t], a,
                                     None if delta_a is None else delta_a[i, :, t])
            x = abar * x + gamma * (b * u[i, :, t]).sum(1)
            ys.append((c * x).sum(1))
        last.append(x)
    return torch.stack(ys).reshape(batch, length, -1).transpose(1, 2), torch.stack(last)


# ---------------------------------------------------------------------------- HiPPO-LegS

def legs(n):
    """HiPPO-LegS: A (n,n), B (n) and P (n), with A + P P^T = -1/2 I + skew."""
    a = np.zeros((n, n))
    for i in range(n):
        for k in range(n):
            if i > k:
                a[i, k] = -np.sqrt(2 * i + 1) * np.sqrt(2 * k + 1)
            elif i == k:
                a[i, k] = -(i + 1)
    order = np.arange(n)
    return a, np.sqrt(2 * order + 1.0), np.sqrt(order + 0.5)


def legs_normal(n):
    """Lambda (n), ascending imaginary part, and V (n,n), unitary, with A + P P^T = V Lambda V^H.

    eigh leaves the phase of each column of V open; here each is turned so that (V^H P)_n is real
    and positive, which makes V, V^H P and V^H B unique (V^H B is then real too).
    """
    a, b, p = legs(n)
    s = a + np.outer(p, p)
    skew = s - np.mean(np.diag(s)) * np.eye(n)
    assert np.abs(skew + skew.T).max() < 1e-12 * n
    imag, v = np.linalg.eigh(-1j * skew)
    phase = v.conj().T @ p
    v = v * (phase / np.abs(phase))
    lam = np.mean(np.diag(s)) + 1j * imag
    assert np.abs(v @ np.diag(lam) @ v.conj().T - s).max() < 1e-12 * n
    assert np.abs(v.conj().T @ v - np.eye(n)).max() < 1e-12
    assert np.abs(imag + imag[::-1]).max() < 1e-12 * n
    return lam, v


def tensor(a):
    a = np.ascontiguousarray(a)
    return torch.as_tensor(a, dtype=torch.complex128 if np.iscomplexobj(a) else torch.float64)



# ---------------------------------------------------------------------------- S4

def pair(t):
    """The conjugate half appended: (n) -> (2n)."""
    return torch.cat([t, t.conj()], -1)


def dplr_dense(lam, p, b, dt):
    """One channel of S4: bilinear Abar (2n,2n), Bbar (2n) of A = diag(lam) - p p^H and B, all with
    their conjugate half appended. p None: diagonal."""
    a = torch.diag(pair(lam))
    if p is not None:
        q = pair(p)
        a = a - torch.outer(q, q.conj())
    one = torch.eye(a.shape[0], dtype=a.dtype)
    left = one - dt / 2 * a
    return torch.linalg.solve(left, one + dt / 2 * a), torch.linalg.solve(left, dt * pair(b))


def dense_kernel(abar, bbar, c, length):
    """C Abar^l Bbar, l < length: the definition. c (n), its conjugate half is appended."""
    out, x = [], bbar
    for _ in range(length):
        out.append((pair(c) * x).sum().real)
        x = abar @ x
    return torch.stack(out)


def dense_run(u, abar, bbar, c, d, s0=None):
    """u (B,H,L); lists over H of Abar, Bbar; c (H,n); s0 (B,H,n): y (B,H,L), last (B,H,n)."""
    batch, width, length = u.shape
    n = c.shape[1]
    ys, last = [], []
    for i in range(batch):
        for k in range(width):
            x = torch.zeros_like(bbar[k]) if s0 is None else pair(s0[i, k])
            row = []
            for t in range(length):
                x = abar[k] @ x + bbar[k] * u[i, k, t]
                row.append((pair(c[k]) * x).sum().real + d[k] * u[i, k, t])
            ys.append(torch.stack(row))
            last.append(x[:n])
    return torch.stack(ys).reshape(u.shape), torch.stack(last).reshape(batch, width, n)
