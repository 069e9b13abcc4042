"""transformers_lm.h: golden vectors of a tiny MambaForCausalLM (transformers 5.23.0), in float64.

    pip install transformers==5.23.0
    python tests/golden/transformers_lm.py

Needs torch. No --peers: an installed package. Only float32 casts of the modelling file are changed
(to float64), so that RMSNorm and the residual stream really run in float64.
"""

import golden
from golden import Header, Rng, check

import torch

golden.import_in_double("transformers.models.mamba.modeling_mamba")
import transformers                                                          # noqa: E402
from transformers import MambaConfig, MambaForCausalLM                       # noqa: E402
from transformers.models.mamba import modeling_mamba                         # noqa: E402

SEED = 20240145
TEXT = """
Embedding -> per layer: residual + mixer(RMSNorm(residual)) -> norm_f (RMSNorm) -> logits = hidden
. embeddings^T. RMSNorm: x / sqrt(mean(x^2) + 1e-5) * weight. The mixer is the Mamba-1 block:
in_proj [x|gate], causal conv1d with bias, SiLU, x_proj [dt|B|C], delta = softplus(dt_proj), Euler
B, D, SiLU gate, out_proj; A = -exp(A_log). layer_norm_epsilon = 1e-5; residual_in_fp32 = True (as
published; computed in float64 here); tie_word_embeddings = True: lm_head.weight is
backbone.embeddings.weight and stands here once, under the latter name.

Gradients (autograd) are of loss = sum(logits * dlogits) of the full forward, from the zero state;
that of the embeddings is the sum of what comes through the head and through the rows looked up;
`grad_embedded` is the latter, row by row.

Arrays of parameters are named after their state_dict names, dots as underscores.
"""


def rms(x, w, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w


def own_forward(ids, p, layers, eps):
    """Logits and residual stream before and after each layer, by this folder's own recurrence."""
    x = p["backbone.embeddings.weight"][ids]
    stream = [x]
    for i in range(layers):
        q = {k[len(f"backbone.layers.{i}."):]: v for k, v in p.items()
             if k.startswith(f"backbone.layers.{i}.")}
        y, _ = golden.mamba_block(
            rms(x, q["norm.weight"], eps), q["mixer.in_proj.weight"],
            q["mixer.conv1d.weight"][:, 0], q["mixer.conv1d.bias"], q["mixer.x_proj.weight"],
            q["mixer.dt_proj.weight"], q["mixer.dt_proj.bias"], q["mixer.A_log"], q["mixer.D"],
            q["mixer.out_proj.weight"])
        x = x + y
        stream.append(x)
    hidden = rms(x, p["backbone.norm_f.weight"], eps)
    return hidden @ p["backbone.embeddings.weight"].T, stream


@torch.enable_grad()
def gradients(h, m, ids, layers, eps):
    """By the source, and by autograd through this folder's own recurrence."""
    dlogits = Rng(SEED + 1).normal(*ids.shape, 13)
    p = dict(m.named_parameters())
    rows = []
    hook = m.backbone.embeddings.register_forward_hook(lambda *given: rows.append(given[-1]))
    logits = m(ids, use_cache=False).logits
    hook.remove()
    g = golden.grads((logits * dlogits).sum(), {**p, "embedded": rows[0]})
    q = {k: golden.leaf(v) for k, v in p.items()}
    own, stream = own_forward(ids, q, layers, eps)
    own_g = golden.grads((own * dlogits).sum(), {**q, "embedded": stream[0]})
    h.input("dlogits", dlogits, "(B,L,V)", "d loss / d logits")
    for key, value in g.items():
        check("d" + key, value, own_g[key], 1e-13)
        h.output("grad_" + key, value, "(B,L,M)" if key == "embedded" else "", f"d loss / d {key}")


@torch.no_grad()
def main():
    assert transformers.__version__ == "5.23.0", transformers.__version__
    assert golden.changed_casts(modeling_mamba.__name__) > 0
    config = MambaConfig(vocab_size=13, hidden_size=8, state_size=4, num_hidden_layers=2,
                         conv_kernel=4, expand=2)
    assert config.residual_in_fp32 and config.layer_norm_epsilon == 1e-5
    assert config.tie_word_embeddings and config.time_step_rank == 1
    m = MambaForCausalLM(config).double().eval()
    rng = Rng(SEED)
    rng.fill(m)
    p = dict(m.named_parameters())
    assert m.lm_head.weight is m.backbone.embeddings.weight

    batch, length, steps = 2, 6, 4
    ids = torch.tensor([[rng.random.randrange(13) for _ in range(length)] for _ in range(batch)])
    full = m(ids, use_cache=False, output_hidden_states=True)
    own, stream = own_forward(ids, p, 2, 1e-5)
    check("logits", full.logits, own, 1e-13)
    check("block 0", full.hidden_states[0], stream[1], 1e-13)

    h = Header("transformers_lm", "transformers 5.23.0 (PyPI), MambaForCausalLM(vocab_size=13,"
               " hidden_size=8, state_size=4, num_hidden_layers=2, conv_kernel=4, expand=2)", SEED,
               TEXT, "python tests/golden/transformers_lm.py")
    h.case("lm", "two prompts of six ids; full forward, prefill, then four cached greedy steps",
           batch=batch, len=length, steps=steps, vocab=13, d_model=8, d_inner=16, d_state=4,
           d_conv=4, dt_rank=1, layers=2)
    h.parameters(m)
    h.integers("ids", ids, "(B,L)", "prompt")
    h.output("logits", full.logits, "(B,L,V)", "logits of the full forward")
    h.output("block0", full.hidden_states[0], "(B,L,M)",
             "residual stream after layer 0 (embedding + mixer output)")
    h.output("norm_f", full.hidden_states[-1], "(B,L,M)", "output of norm_f, after the last layer")

    out = m(ids, use_cache=True)
    cache = out.cache_params
    check("prefill", out.logits, full.logits, 1e-14)
    conv = torch.stack([cache.get_conv_state(i, state_idx=0).clone() for i in range(2)])
    state = torch.stack([cache.get_recurrent_state(i, state_idx=0).clone() for i in range(2)])
    tokens, step_logits = [], []
    last, history = out.logits[:, -1], ids
    for _ in range(steps):
        top = last.topk(2, dim=-1).values
        assert float((top[:, 0] - top[:, 1]).min()) > 1e-2, "a greedy choice is too close"
        token = last.argmax(-1)
        tokens.append(token)
        history = torch.cat([history, token[:, None]], 1)
        last = m(token[:, None], cache_params=cache, use_cache=True).logits[:, -1]
        step_logits.append(last)
        check("step", last, m(history, use_cache=False).logits[:, -1], 1e-13)
    assert all(s.dtype == torch.float64 for s in (conv, state))
    h.output("conv_state", conv, "(layer,B,E,%d)" % conv.shape[-1],
             "convolution inputs kept after the prompt, oldest first")
    h.output("ssm_state", state, "(layer,B,E,N)", "scan state after the prompt")
    h.integers("tokens", torch.stack(tokens), "(T,B)", "greedy choices: tokens[0] from the prompt's"
               " last logits, tokens[t] from step_logits[t-1]")
    h.output("step_logits", torch.stack(step_logits), "(T,B,V)",
             "logits of each cached step, after feeding tokens[t]")
    final = torch.stack([cache.get_recurrent_state(i, state_idx=0) for i in range(2)])
    h.output("ssm_state_end", final, "(layer,B,E,N)", "scan state after the last step")
    gradients(h, m, ids, 2, 1e-5)
    h.write()


if __name__ == "__main__":
    main()
