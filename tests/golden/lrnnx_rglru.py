"""lrnnx_rglru.h: golden vectors of lrnnx 1.0.0.post1, lrnnx.models.ltv.rglru.RGLRU, run in float64.

    pip download --no-deps --no-binary :all: lrnnx==1.0.0.post1   # unpack in DIR, not built
    python tests/golden/lrnnx_rglru.py --peers DIR

Needs torch and einops. The CUDA extensions are replaced by empty modules, and with them the CUDA scan by the
package's own reference, rglru_scan_ref.
"""

import golden
from golden import Header, Rng, check, grads, leaf

import importlib
import os

import torch

SEED = 20240301
TEXT = """
With i = sigmoid(W_i u + b_i) and r = sigmoid(W_r u + b_r), W dense: a = sigmoid(a_log)^(8 r), h = a h +
sqrt(1 - a^2) i u, at the first step as at any other. u is in_proj through a causal convolution with bias, y =
out_proj(gelu(gate_proj) h), the GELU by erf.

Parameters stand under the names and in the order that ssm_rglru has them: recurrent_param is -a_log, gate
weights are transposed. The state is flat: the last K-1 inputs of the convolution, oldest first, and h. Gradients
are of loss = sum(y*dy), by autograd in float64.
"""
NAMES = {"gate_proj.weight": "linear_y.weight", "in_proj.weight": "linear_x.weight",
         "out_proj.weight": "linear_out.weight", "conv1d.weight": "conv_1d.weight", "conv1d.bias": "conv_1d.bias",
         "a_log": "rg_lru.recurrent_param", "input_gate_proj.weight": "rg_lru.input_gate_weight",
         "input_gate_proj.bias": "rg_lru.input_gate_bias", "recurrent_gate_proj.weight": "rg_lru.recurrent_gate_weight",
         "recurrent_gate_proj.bias": "rg_lru.recurrent_gate_bias"}


def ours(name, value):
    """A parameter, or its gradient, as ssm_rglru has it."""
    if name == "a_log":
        return -value[:, 0]
    return value.T.contiguous() if name.endswith("_gate_proj.weight") else value


def module(root):
    for name in ("lrnnx", "lrnnx.models", "lrnnx.models.ltv", "lrnnx.ops"):
        golden.bare_package(name, os.path.join(root, *name.split(".")))
    golden.empty_module("selective_scan_cuda")
    golden.import_in_double("lrnnx.ops.rglru_scan", "lrnnx.models.ltv.rglru")
    scan = importlib.import_module("lrnnx.ops.rglru_scan")
    m = importlib.import_module("lrnnx.models.ltv.rglru")
    m.rglru_scan_fn = scan.rglru_scan_ref
    m.selective_state_update = None # a GPU's
    return m


def own_block(x, p, c=8.0):
    """The block written plainly: one sequence, one step after the other."""
    batch, length, _ = x.shape
    w = p["conv1d.weight"][:, 0]
    width, k = w.shape
    line = torch.cat([torch.zeros(batch, k - 1, width, dtype=x.dtype), x @ p["in_proj.weight"].T], 1)
    u = p["conv1d.bias"] + sum(line[:, j:j + length] * w[:, j] for j in range(k))
    i, r = (1 / (1 + torch.exp(-(u @ p[n + "_gate_proj.weight"].T + p[n + "_gate_proj.bias"])))
            for n in ("input", "recurrent"))
    log_a = -c * r * torch.log1p(torch.exp(-p["a_log"][:, 0]))
    h, rows = torch.zeros(batch, width, dtype=x.dtype), []
    for t in range(length):
        h = torch.exp(log_a[:, t]) * h + torch.sqrt(-torch.expm1(2 * log_a[:, t])) * i[:, t] * u[:, t]
        rows.append(h)
    z = x @ p["gate_proj.weight"].T
    gate = z * (1 + torch.erf(z / 2 ** 0.5)) / 2
    return (gate * torch.stack(rows, 1)) @ p["out_proj.weight"].T, torch.cat([line[:, length:].reshape(batch, -1), h], 1)


def block_case(h, rng, m, name, note, model, expand, length):
    batch, taps, width = 2, 4, expand * model
    block = m.RGLRU(model, expand=expand, use_fast_path=False).double()
    rng.fill(block)
    with torch.no_grad():
        block.a_log.copy_(rng.uniform(-0.5, 4.0, *block.a_log.shape))
    p = dict(block.named_parameters())
    h.case(name, note, batch=batch, len=length, d_model=model, lru_width=width, states=taps * width)
    x, dy = leaf(rng.normal(batch, length, model)), rng.normal(batch, length, model)
    y = block(x)
    own, state = own_block(x, p)
    check(name + " y", y, own, 1e-13)
    g = grads((y * dy).sum(), {"x": x, **p})
    own_g = grads((own * dy).sum(), {"x": x, **p})
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], 1e-12)
    with torch.no_grad(): # from the first step on: a prompt leaves the wrong rows for the convolution
        cache = block.allocate_inference_cache(batch, length, torch.float64)
        rows = [block.step(x[:, t:t + 1], cache)[0] for t in range(length)]
        check(name + " steps", torch.cat(rows, 1), y, 1e-13)
        conv = cache["conv_state"][:, :, 1:].transpose(1, 2).reshape(batch, -1)
        check(name + " state", torch.cat([conv, cache["lrnn_state"][:, :, 0]], 1), state, 1e-13)
    h.input("x", x, "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    for k, v in NAMES.items():
        h.input(v, ours(k, p[k]), "", f"parameter `{k}` as `{v}`")
    h.output("y", y, "(B,L,M)", "output")
    h.output("state", state, "", "state after the last step, flat")
    h.output("grad_x", g["x"], "(B,L,M)", "d loss / d x")
    for k, v in NAMES.items():
        h.output("grad_" + v, ours(k, g[k]), "", f"d loss / d {v}")


def main():
    root = golden.peers_folder("lrnnx-1.0.0.post1", r"lrnnx-.*")
    m = module(root)
    h = Header("lrnnx_rglru", "lrnnx 1.0.0.post1 (PyPI), RGLRU", SEED, TEXT)
    rng = Rng(SEED)
    block_case(h, rng, m, "block", "forward, and steps asserted equal to it", 6, 1, 9)
    block_case(h, rng, m, "expand", "twice as wide as the model", 4, 2, 6)
    h.write()


if __name__ == "__main__":
    main()
