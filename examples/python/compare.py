"""A layer of ssm.h beside the same layer in PyTorch: outputs, gradients and time.

    make shared && python3 examples/python/compare.py [--layer mamba] [--double] [--numpy]

The other side is written below from the papers' equations (Gu & Dao 2023, arXiv:2312.00752), a plain
loop over time in double precision, and takes the layer's own weights by their published names. With
PyTorch its gradients come from autograd. Without it, or with --numpy, NumPy computes the outputs, and
each gradient is compared along one random direction with a difference quotient.

The times say what such a loop costs, not what a fused GPU kernel does.
"""

import argparse
import sys
import time

import numpy as np

import ssm

try:
    import torch
except ImportError:
    torch = None

BATCH, LENGTH, D_MODEL = 2, 64, 32
# Of the largest value of each tensor; measured: 8e-7 in float, 2e-15 in double, 3e-8 where a central
# difference leaves that much of double's 16 digits.
LIMIT = {"float32": 5e-6, "float64": 1e-13, "differences": 1e-6}


# ---- the layers as the papers write them; xp is numpy or torch --------------------------------

def silu(xp, x):
    return x / (1 + xp.exp(-x))


def s6(xp, p, config, rows):
    """rows: x[t] for each t, [batch, channels]. Returns y[t]."""
    A = -xp.exp(p["A_log"])
    rank, states = config.dt_rank, config.d_state
    h, out = 0, []
    for x in rows:
        projected = x @ p["x_proj.weight"].T
        dt, B, C = projected[:, :rank], projected[:, rank:rank + states], projected[:, rank + states:]
        delta = xp.log1p(xp.exp(dt @ p["dt_proj.weight"].T + p["dt_proj.bias"]))
        h = xp.exp(delta[:, :, None] * A) * h + (delta * x)[:, :, None] * B[:, None, :]
        out.append((h * C[:, None, :]).sum(-1) + p["D"] * x)
    return out


def mamba(xp, p, config, rows):
    inner, taps = config.d_inner, config.d_conv
    both = [x @ p["in_proj.weight"].T for x in rows]
    u, z = [b[:, :inner] for b in both], [b[:, inner:] for b in both]
    weight = p["conv1d.weight"][:, 0, :]
    convolved = []
    for t in range(len(rows)):
        total = p["conv1d.bias"] + 0 * u[t]
        for k in range(max(0, taps - 1 - t), taps):
            total = total + weight[:, k] * u[t - (taps - 1) + k]
        convolved.append(silu(xp, total))
    scanned = s6(xp, p, config, convolved)
    return [(s * silu(xp, gate)) @ p["out_proj.weight"].T for s, gate in zip(scanned, z)]


LAYERS = {"s6": (ssm.S6, s6), "mamba": (ssm.Mamba, mamba)}


def run(xp, reference, config, values):
    """Whole sequences [batch, len, d_model] through the reference."""
    x = values["x"]
    return xp.stack(reference(xp, values, config, [x[:, t] for t in range(x.shape[1])]), 1)


# ---- comparing --------------------------------------------------------------------------------

def seconds(function, repeats):
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


def with_torch(reference, config, values, dy):
    """y, the gradients of sum(y dy), and how long one run of both takes."""
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}

    def both():
        y = run(torch, reference, config, leaves)
        (y * torch.tensor(dy)).sum().backward()
        return y

    y = both().detach().numpy()
    gradients = {name: leaf.grad.numpy().copy() for name, leaf in leaves.items()}
    return y, gradients, seconds(both, 3)


def with_numpy(reference, config, values, dy, rng):
    """y, directions, the slope of sum(y dy) along each, and how long one forward takes."""
    def loss(changed):
        return (run(np, reference, config, changed) * dy).sum()

    directions, slopes = {}, {}
    for name, value in values.items():
        directions[name] = rng.choice([-1.0, 1.0], value.shape)
        ends = [loss(dict(values, **{name: value + step * directions[name]})) for step in (1e-5, -1e-5)]
        slopes[name] = (ends[0] - ends[1]) / 2e-5
    y = run(np, reference, config, values)
    return y, directions, slopes, seconds(lambda: run(np, reference, config, values), 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layer", choices=sorted(LAYERS), default="mamba")
    parser.add_argument("--double", action="store_true", help="the library of `make shared-double`")
    parser.add_argument("--numpy", action="store_true", help="NumPy even where PyTorch is installed")
    options = parser.parse_args()
    use_torch = torch is not None and not options.numpy

    library = ssm.Library(ssm.default_path(options.double))
    kind, reference = LAYERS[options.layer]
    layer = kind(library, d_model=D_MODEL, seed=1)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BATCH, LENGTH, D_MODEL)).astype(library.dtype)
    dy = rng.standard_normal(x.shape).astype(library.dtype)
    values = {name: view.astype(np.float64) for name, view in layer.params.items()}
    values["x"] = x.astype(np.float64)

    y = layer.record(x)
    gradients = layer.backward(dy)
    ours = seconds(lambda: (layer.record(x), layer.backward(dy)) if use_torch else layer.forward(x), 10)
    limit = LIMIT[library.dtype.name]
    print("%s of ssm.h %s in %s, [%d, %d, %d], beside a plain loop in %s in float64" % (
        options.layer, library.ssm_version(), library.dtype, BATCH, LENGTH, D_MODEL,
        "PyTorch " + torch.__version__ if use_torch else "NumPy " + np.__version__))
    if use_torch:
        torch.set_num_threads(1)
        expected, slopes, theirs = with_torch(reference, layer.config, values, dy.astype(np.float64))
    else:
        print("(%s; gradients by differences along one direction)" %
              ("as asked for" if torch else "PyTorch is not installed"))
        expected, directions, slopes, theirs = with_numpy(reference, layer.config, values, dy.astype(np.float64), rng)

    print("\n  %-20s %12s %14s" % ("", "largest", "difference"))
    rows = [("y", y, expected, limit)]
    for name in slopes:
        gradient = gradients[name].astype(np.float64)
        if use_torch:
            rows.append(("d " + name, gradient, slopes[name], limit))
        else:
            # One number; its rounding grows with the length of the gradient, not with the sum.
            size = np.sqrt((gradient**2).sum())
            rows.append(("d " + name, (gradient * directions[name]).sum() / size, slopes[name] / size,
                         max(limit, LIMIT["differences"])))
    failed = False
    for name, got, want, allowed in rows:
        largest = np.abs(want).max()
        difference = np.abs(got - want).max() / (largest if np.ndim(want) else 1)
        failed |= not difference <= allowed
        print("  %-20s %12.3g %14.2g%s" % (name, largest, difference, "" if difference <= allowed else "   too much"))
    print("\n  %s: ssm.h on one thread %.2f ms, the loop %.2f ms" % (
        "forward and backward" if use_torch else "forward", ours * 1e3, theirs * 1e3))
    return failed


if __name__ == "__main__":
    sys.exit(main())
