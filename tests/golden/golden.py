"""Shared helper of the golden-vector scripts: inputs, checks, C headers, package loading.

Every script here runs one published implementation in float64 and writes one header. The rules:

* random inputs and weights are multiples of 2**-10, so they are exact in float, in double and in
  the decimal text (printed in full, with as many digits as that takes): a float build and a double
  build read the same numbers
* all computing is float64; where a source forces float32 (`.float()`, `torch.float`), its text is
  changed to `.double()` while it is imported, and nothing else is changed; where it forbids
  gradients (`torch.no_grad()`), with_gradients takes that away
* every result is compared with the recurrence written again in this file, and its gradients with
  autograd through that recurrence
* the generator is `random.Random(seed).random()` and Box-Muller, the same on every platform

Needs torch and what the script in question imports; see each script for its command.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import random
import re
import sys
import types

import torch

torch.set_num_threads(1)
GRID = 1024.0

# The scripts bear the names of the packages they load: take this folder off the search path.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]


# ---------------------------------------------------------------------------------- inputs

def snap(t):
    """Round to multiples of 2**-10 (exact in float32 within +-16384)."""
    t = torch.as_tensor(t, dtype=torch.float64)
    out = torch.round(t * GRID) / GRID
    assert torch.equal(out.float().double(), out)
    return out


class Rng:
    """Seeded normal and uniform tensors on the 2**-10 grid."""

    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)

    def _one_normal(self):
        u = 1.0 - self.random.random()
        v = self.random.random()
        return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)

    def normal(self, *shape, scale=1.0, mean=0.0):
        count = math.prod(shape)
        t = torch.tensor([mean + scale * self._one_normal() for _ in range(count)],
                         dtype=torch.float64)
        return snap(t.reshape(shape))

    def uniform(self, low, high, *shape):
        count = math.prod(shape)
        t = torch.tensor([low + (high - low) * self.random.random() for _ in range(count)],
                         dtype=torch.float64)
        return snap(t.reshape(shape))

    def a_log(self, rows, n):
        """log(1..N) per row plus noise, so that no two channels share an A."""
        base = torch.log(torch.arange(1, n + 1, dtype=torch.float64)).repeat(rows, 1)
        return snap(base + self.normal(rows, n, scale=0.2))

    def fill(self, module):
        """Give every parameter of a torch module a plausible, generic value by its name."""
        with torch.no_grad():
            for name, p in module.named_parameters():
                last = name.split(".")[-1]
                if last == "A_log":
                    value = self.a_log(*p.shape)
                elif last == "D" or "norm" in name:
                    value = self.normal(*p.shape, scale=0.3, mean=1.0)
                elif name.endswith(("dt_proj.bias", "dt_proj_layer.bias")):
                    value = self.uniform(-3.0, 0.5, *p.shape)
                elif last == "bias" or last == "conv_bias":
                    value = self.normal(*p.shape, scale=0.3)
                elif "embed" in name:
                    value = self.normal(*p.shape, scale=0.25)
                else:
                    fan_in = math.prod(p.shape[1:])
                    value = self.normal(*p.shape, scale=1.2 / math.sqrt(fan_in))
                p.copy_(value)


def leaf(t):
    """A float64 copy that collects a gradient."""
    return t.detach().clone().double().requires_grad_(True)


# ---------------------------------------------------------------------------------- checks

def check(name, got, want, tol=2e-14):
    """Assert equality within tol, relative to the largest magnitude; return the deviation."""
    got = got.detach().double()
    want = want.detach().double()
    assert got.shape == want.shape, (name, got.shape, want.shape)
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    worst = float((got - want).abs().max()) / scale if want.numel() else 0.0
    assert worst <= tol, f"{name}: deviates by {worst:.3g} (allowed {tol:.3g})"
    return worst


def discretize(kind, delta, a, delta_a=None):
    """(Abar, factor of B*u) for one method; delta_a, where given, replaces delta in Abar only."""
    da = (delta if delta_a is None else delta_a) * a
    db = delta * a
    if kind == "euler":
        return torch.exp(da), delta + 0.0 * da
    if kind == "zoh":
        return torch.exp(da), torch.expm1(db) / a
    if kind == "bilinear":
        return (1 + da / 2) / (1 - da / 2), delta / (1 - db / 2)
    if kind == "dirac":
        return torch.exp(da), torch.ones_like(da)
    raise ValueError(kind)


def selective_scan(u, delta, A, B, C, D=None, z=None, bias=None, softplus=False, kind="euler",
                   delta_a=None, h0=None):
    """The selective scan written plainly: loops over batch, channel and time, vectors over N.

    u, delta, z, delta_a: (B,D,L); A: (D,N); B, C: (D,N), (B,N,L) or (B,G,N,L); returns out, last.
    A, B and C may be complex: then so is last.
    """
    batch, dim, length = u.shape

    def pick(m, b, d, t):
        if m.dim() == 2:
            return m[d]
        if m.dim() == 3:
            return m[b, :, t]
        return m[b, d * m.shape[1] // dim, :, t]

    out, last = [], []
    for b in range(batch):
        for d in range(dim):
            h = torch.zeros_like(A[d]) if h0 is None else h0[b, d]
            for t in range(length):
                dt = delta[b, d, t] + (bias[d] if bias is not None else 0.0)
                if softplus:
                    dt = torch.log1p(torch.exp(dt))
                alpha, gamma = discretize(kind, dt, A[d],
                                          None if delta_a is None else delta_a[b, d, t])
                h = alpha * h + gamma * pick(B, b, d, t) * u[b, d, t]
                y = (pick(C, b, d, t) * h).sum()
                if y.is_complex():  # half of a conjugate pair
                    y = 2 * y.real
                if D is not None:
                    y = y + D[d] * u[b, d, t]
                if z is not None:
                    y = y * z[b, d, t] / (1 + torch.exp(-z[b, d, t]))
                out.append(y)
            last.append(h)
    return torch.stack(out).reshape(batch, dim, length), torch.stack(last).reshape(batch, dim, -1)


def silu(x):
    return x / (1 + torch.exp(-x))


def mamba_block(x, in_w, conv_w, conv_b, proj_w, dt_w, dt_b, a_log, d_skip, out_w, kind="euler"):
    """A Mamba-1 block written plainly. x: (B,L,M) -> y (B,L,M) and the last state (B,E,N).

    conv_w: (E,K) or None for no convolution (SiLU stays); dt_b may be None.
    """
    batch, length, _ = x.shape
    e = in_w.shape[0] // 2
    n = a_log.shape[1]
    r = dt_w.shape[1]
    xz = x @ in_w.T
    xi, z = xz[..., :e], xz[..., e:]
    if conv_w is None:
        c = xi
    else:
        k = conv_w.shape[1]
        rows = []
        for t in range(length):
            acc = conv_b.expand(batch, e)
            for j in range(k):
                s = t - (k - 1) + j
                if s >= 0:
                    acc = acc + conv_w[:, j] * xi[:, s]
            rows.append(acc)
        c = torch.stack(rows, 1)
    u = silu(c)
    dbc = u @ proj_w.T
    dt = dbc[..., :r] @ dt_w.T
    y, last = selective_scan(u.transpose(1, 2), dt.transpose(1, 2), -torch.exp(a_log),
                             dbc[..., r:r + n].transpose(1, 2), dbc[..., r + n:].transpose(1, 2),
                             D=d_skip, z=z.transpose(1, 2), bias=dt_b, softplus=True, kind=kind)
    return y.transpose(1, 2) @ out_w.T, last


def grads(loss, tensors):
    """Gradients of a scalar with respect to a dict of leaves."""
    found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=False)
    return dict(zip(tensors.keys(), found))


# ---------------------------------------------------------------------------------- header

class Header:
    """Collects cases and writes them as C arrays. `text`: paragraphs between blank lines."""

    def __init__(self, source, package, seed, text, command=None):
        self.source = source
        self.package = package
        self.seed = seed
        self.text = text
        self.command = command or f"python tests/golden/{source}.py --peers DIR"
        self.prefix = f"gold_{source}"
        self.body = []
        self.names = []
        self.index = []

    def case(self, name, note, **dims):
        """Start a case: prints its note and an enum GOLD_<SOURCE>_<CASE>_<DIM>."""
        self.current = f"{self.prefix}_{name}"
        self.body.append("/* " + "-" * 93 + "\n" + _wrap(f"{name}: {note}", "   ") + "\n */\n")
        if dims:
            items = [f"GOLD_{self.source}_{name}_{k}".upper() + f" = {v}"
                     for k, v in dims.items()]
            self.body.append("enum {\n    " + ",\n    ".join(items) + "\n};\n")
        self.index.append((name, note, dims, []))

    def _array(self, tensor, t, layout, meaning, text, ctype="double"):
        name = f"{self.current}_{tensor}".replace(".", "_").lower()
        assert name not in self.names, name
        self.names.append(name)
        values = [text(v) for v in t.reshape(-1).tolist()]
        rows, line = [], "   "
        for v in values:
            if len(line) + len(v) + 2 > 98:
                rows.append(line)
                line = "   "
            line += f" {v},"
        rows.append(line.rstrip(","))
        shape = "x".join(str(s) for s in t.shape) if t.dim() else "1"
        sizes = f"{layout} = {shape}" if layout else shape
        comment = _wrap(f"{sizes}: {meaning}", "   ")
        self.body.append("/*" + comment[2:] + " */\n"
                         + f"static const {ctype} {name}[{len(values)}] = {{\n"
                         + "\n".join(rows) + "\n};\n")
        self.index[-1][3].append((name, layout, tuple(t.shape), meaning))

    def input(self, tensor, t, layout, meaning):
        """An input or a weight: must be exact in float32; printed exactly."""
        t = t.detach().double()
        assert torch.equal(t.float().double(), t), f"{tensor} is not float32-exact"

        def text(v):
            s = "%.9g" % v
            return s if float(s) == v else repr(v)

        self._array(tensor, t, layout, meaning, lambda v: _point(text(v)))

    def output(self, tensor, t, layout, meaning):
        """A result in float64."""
        assert t.dtype == torch.float64, (tensor, t.dtype)
        assert bool(torch.isfinite(t).all()), tensor
        self._array(tensor, t.detach(), layout, meaning, lambda v: _point("%.17g" % v))

    def integers(self, tensor, t, layout, meaning):
        self._array(tensor, t, layout, meaning, str, "int")

    def parameters(self, module):
        """All parameters of a module under their state_dict names (dots become underscores)."""
        for name, p in module.named_parameters():
            self.input(name, p, "", f"parameter `{name}`")

    def write(self, folder=None):
        """Write SOURCE.h; with GOLDEN_INDEX=FILE set, also append a list of all arrays to FILE."""
        folder = folder or _HERE
        guard = f"GOLD_{self.source}_H".upper()
        head = ("/* Golden vectors. Generated, do not edit.\n"
                + "   source : " + _wrap(self.package, "            ").lstrip() + "\n"
                f"   command: {self.command}\n"
                f"   seed   : {self.seed}\n\n"
                + _wrap("Inputs and weights are exact in float, in double and in the text (random"
                        " ones are multiples of 2^-10). Results are float64. Arrays are row-major"
                        " in the layout of the source; each comment gives it, then the sizes."
                        " Letters: B batch, L or T time, D M E channels (E inner), N state,"
                        " G groups, H heads, K taps of the convolution, R dt_rank, V vocabulary.",
                        "   ") + "\n\n"
                + "\n\n".join(_wrap(p, "   ") for p in self.text.strip().split("\n\n"))
                + "\n */\n")
        path = os.path.join(folder, self.source + ".h")
        with open(path, "w", encoding="ascii", newline="\n") as f:
            f.write(head + f"#ifndef {guard}\n#define {guard}\n\n"
                    + "\n".join(self.body) + f"\n#endif /* {guard} */\n")
        print(f"{path}: {os.path.getsize(path)} bytes, {len(self.names)} arrays")
        report = os.environ.get("GOLDEN_INDEX")
        if report:
            with open(report, "a", encoding="utf-8") as f:
                f.write(f"\n### {self.source}.h\n")
                for name, note, dims, arrays in self.index:
                    f.write(f"- **{name}** ({', '.join(f'{k}={v}' for k, v in dims.items())})\n")
                    for a, layout, shape, meaning in arrays:
                        f.write(f"    - `{a}` {layout} {list(shape)}: {meaning}\n")


def _point(s):
    """A C double literal: never an integer constant."""
    return s if re.search(r"[.en]", s) else s + ".0"


def _wrap(text, indent, width=96):
    lines, line = [], indent
    for word in text.split():
        if len(line) + len(word) + 1 > width and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += word + " "
    lines.append(line.rstrip())
    return "\n".join(lines)


# --------------------------------------------------------------------------------- packages

class _DoubleLoader(importlib.machinery.SourceFileLoader):
    """Imports a module with its float32 casts turned into float64 casts."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        text = self.get_data(path).decode("utf-8")
        text, n = re.subn(r"\.float\(\)", ".double()", text)
        text, m = re.subn(r"\btorch\.(float32|float)\b", "torch.float64", text)
        text, k = re.subn(r"\btorch\.cfloat\b", "torch.cdouble", text)
        text, c = re.subn(r"\.cfloat\(\)", ".cdouble()", text)
        _DoubleLoader.changed[fullname] = n + m + k + c
        return compile(text, path, "exec", dont_inherit=True)

    changed = {}


class _DoubleFinder(importlib.abc.MetaPathFinder):
    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = _DoubleLoader(fullname, spec.origin)
        return spec


def import_in_double(*names):
    """From now on these modules are imported with float64 in place of float32."""
    sys.meta_path.insert(0, _DoubleFinder(names))


def load_in_double(name, path):
    """A single file as a module, with float64 in place of float32."""
    loader = _DoubleLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def with_gradients(*classes):
    """Take @torch.no_grad() away from the methods of these classes."""
    for cls in classes:
        for name, method in list(vars(cls).items()):
            if hasattr(method, "__wrapped__"):
                setattr(cls, name, method.__wrapped__)


def give(module, name, tensor):
    """A tensor in place of a parameter, so that gradients go on to what it was computed from."""
    assert module._parameters[name].shape == tensor.shape, (name, tensor.shape)
    del module._parameters[name]
    setattr(module, name, tensor)


def changed_casts(name):
    return _DoubleLoader.changed[name]


def bare_package(name, folder):
    """A package object whose __init__ is never run (those import CUDA extensions)."""
    module = types.ModuleType(name)
    module.__path__ = [folder]
    sys.modules[name] = module


def empty_module(name):
    sys.modules[name] = types.ModuleType(name)


def mamba_ssm_source():
    """mamba_ssm's source under --peers, importable without its CUDA extension."""
    folder = peers_folder("mamba_ssm-2.3.2.post1", r"mamba_ssm-.*")
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        bare_package(name, os.path.join(folder, *name.split(".")))
    empty_module("selective_scan_cuda")


def peers_folder(prefix, pattern):
    """The unpacked source folder under --peers whose name matches, and the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", required=True,
                        help="folder where the source archives are unpacked")
    arguments = parser.parse_args()
    for entry in sorted(os.listdir(arguments.peers)):
        path = os.path.join(arguments.peers, entry)
        if re.fullmatch(pattern, entry) and os.path.isdir(path):
            return path
    raise SystemExit(f"no folder like {prefix} in {arguments.peers}")
