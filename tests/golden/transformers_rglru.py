"""transformers_rglru.h: golden vectors of RecurrentGemmaRecurrentBlock and RecurrentGemmaRglru (transformers
5.24.0), run on the CPU in float64.

    pip install transformers==5.24.0
    python tests/golden/transformers_rglru.py

Needs torch. No --peers: an installed package. Only float32 casts of the modelling file are changed (to
float64).
"""

import golden
from golden import Header, Rng, check, grads, leaf

import torch

MODULE = "transformers.models.recurrent_gemma.modeling_recurrent_gemma"
golden.import_in_double(MODULE)
import transformers                                                          # noqa: E402
from transformers import RecurrentGemmaConfig                                # noqa: E402
from transformers.models.recurrent_gemma import modeling_recurrent_gemma     # noqa: E402

SEED = 20240227
TEXT = """
With i = sigmoid(W_i u + b_i) and r = sigmoid(W_r u + b_r), W block-diagonal and stored [head][in][out]:
log a = -8 r softplus(recurrent_param), h = a h + sqrt(1 - a^2) i u, the root being 1 at position 0.
The block: u is linear_x through a causal convolution with bias, y = linear_out(gelu_tanh(linear_y) h).

The state is flat: the last K-1 inputs of the convolution, oldest first, h, and a 1. Gradients are of loss
= sum(y*dy) + sum(state*dlast), by autograd in float64.
"""


def own_unit(u, p, heads, c=8.0, first=1.0):
    """The RG-LRU written plainly: one sequence, one step, one channel after the other."""
    batch, length, width = u.shape
    each = width // heads
    rows = []
    for b in range(batch):
        h = [torch.zeros((), dtype=u.dtype)] * width
        for t in range(length):
            for k in range(width):
                head, out = divmod(k, each)
                part = u[b, t, head * each:(head + 1) * each]
                i = 1 / (1 + torch.exp(-(part @ p["input_gate_weight"][head, :, out] + p["input_gate_bias"][head, out])))
                r = 1 / (1 + torch.exp(-(part @ p["recurrent_gate_weight"][head, :, out] +
                                         p["recurrent_gate_bias"][head, out])))
                log_a = -c * r * torch.log1p(torch.exp(p["recurrent_param"][k]))
                root = torch.sqrt(-torch.expm1(2 * log_a)) if t or first is None else first
                h[k] = torch.exp(log_a) * h[k] + root * i * u[b, t, k]
            rows.append(torch.stack(h))
    return torch.stack(rows).reshape(batch, length, width)


def own_block(x, p, heads):
    """The block and what it leaves, through own_unit."""
    batch, length, _ = x.shape
    w = p["conv_1d.weight"][:, 0]
    width, k = w.shape
    line = torch.cat([torch.zeros(batch, k - 1, width, dtype=x.dtype), x @ p["linear_x.weight"].T + p["linear_x.bias"]], 1)
    u = p["conv_1d.bias"] + sum(line[:, j:j + length] * w[:, j] for j in range(k))
    h = own_unit(u, {n[len("rg_lru."):]: v for n, v in p.items() if n.startswith("rg_lru.")}, heads)
    z = x @ p["linear_y.weight"].T + p["linear_y.bias"]
    gate = z * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z ** 3))) / 2
    y = (gate * h) @ p["linear_out.weight"].T + p["linear_out.bias"]
    return y, flat(line[:, length:], h[:, -1])


def flat(conv, h):
    batch = h.shape[0]
    return torch.cat([conv.reshape(batch, -1), h, torch.ones(batch, 1, dtype=h.dtype)], 1)


def config_of(model, width, heads):
    return RecurrentGemmaConfig(hidden_size=model, lru_width=width, num_attention_heads=heads, conv1d_width=4,
                                num_hidden_layers=1, intermediate_size=4, vocab_size=4,
                                hidden_activation="gelu_pytorch_tanh")


def fill(rng, m, unit):
    rng.fill(m)
    with torch.no_grad():
        unit.recurrent_param.copy_(rng.uniform(-4.0, 0.0, *unit.recurrent_param.shape))


def write(h, m, name, x, dy, dlast, run, own, heads):
    """Computes and checks a case, and writes it. run, own: (y, state) of x."""
    p = dict(m.named_parameters())
    y, state = run(x)
    own_y, own_state = own(x, p, heads)
    check(name + " y", y, own_y, 1e-13)
    check(name + " state", state, own_state, 1e-13)
    g = grads((y * dy).sum() + (state * dlast).sum(), {"x": x, **p})
    own_g = grads((own_y * dy).sum() + (own_state * dlast).sum(), {"x": x, **p})
    for k in g:
        check(f"{name} d{k}", g[k], own_g[k], 1e-12)
    h.input("x", x, "(B,L,M)", "input")
    h.input("dy", dy, "(B,L,M)", "d loss / d y")
    h.input("dlast", dlast, "", "d loss / d state")
    h.parameters(m)
    h.output("y", y, "(B,L,M)", "output")
    h.output("state", state, "", "state after the last step, flat")
    for k, v in g.items():
        h.output("grad_" + k, v, "(B,L,M)" if k == "x" else "", f"d loss / d {k}")
    return y, state


def block_case(h, rng, name, note, model, width, heads, length):
    batch, taps = 2, 4
    m = modeling_recurrent_gemma.RecurrentGemmaRecurrentBlock(config_of(model, width, heads), 0).double().train()
    fill(rng, m, m.rg_lru)
    states = taps * width + 1
    h.case(name, note, batch=batch, len=length, d_model=model, lru_width=width, heads=heads, states=states)

    def part(x, first, last):
        y, _ = m(x[:, first:last], torch.arange(first, last)[None], None, use_cache=True)
        return y, flat(m.conv1d_state.transpose(1, 2), m.rg_lru.recurrent_states)

    def run(x):
        m.conv1d_state = m.rg_lru.recurrent_states = None
        return part(x, 0, length)

    x = leaf(rng.normal(batch, length, model))
    y, state = write(h, m, name, x, rng.normal(batch, length, model), rng.normal(batch, states), run, own_block, heads)
    with torch.no_grad():
        m.conv1d_state = m.rg_lru.recurrent_states = None
        steps = [part(x, 0, 3)] + [part(x, t, t + 1) for t in range(3, length)]
        check(name + " steps", torch.cat([s[0] for s in steps], 1), y, 1e-13)
        check(name + " state of the steps", steps[-1][1], state, 1e-13)


def unit_case(h, rng, name, note, width, heads, length):
    batch = 2
    m = modeling_recurrent_gemma.RecurrentGemmaRglru(config_of(width, width, heads)).double().train()
    fill(rng, m, m)
    none = torch.zeros(batch, 0, dtype=torch.float64)
    h.case(name, note, batch=batch, len=length, d_model=width, heads=heads, states=width + 1)

    def run(x):
        m.recurrent_states = None
        return m(x, torch.arange(length)[None]), flat(none, m.recurrent_states)

    def own(x, p, heads):
        y = own_unit(x, p, heads)
        return y, flat(none, y[:, -1])

    write(h, m, name, leaf(rng.normal(batch, length, width)), rng.normal(batch, length, width),
          rng.normal(batch, width + 1), run, own, heads)


def main():
    assert transformers.__version__ == "5.24.0", transformers.__version__
    assert golden.changed_casts(MODULE) > 0
    h = Header("transformers_rglru", "transformers 5.24.0 (PyPI), RecurrentGemmaRecurrentBlock and RecurrentGemmaRglru",
               SEED, TEXT, "python tests/golden/transformers_rglru.py")
    rng = Rng(SEED)
    block_case(h, rng, "block", "two heads; prefill and cached steps asserted equal to the whole", 5, 8, 2, 9)
    block_case(h, rng, "dense", "one head, as wide as the model", 6, 6, 1, 5)
    unit_case(h, rng, "unit", "the RG-LRU alone, heads of two channels", 6, 3, 7)
    h.write()


if __name__ == "__main__":
    main()
