"""s5_pytorch.h: golden vectors of s5-pytorch 0.2.1, class S5, run in float64 / complex128.

    pip install --no-deps s5-pytorch==0.2.1      # needs torch, numpy, scipy
    python tests/golden/s5_pytorch.py

The source fixes complex64 as default of one function (as_complex), which is set to complex128
here; nothing else is changed. No --peers: an installed package.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
from golden import Header, Rng
from golden_lti import close, grads, leaf, put_in, put_out

import s5.s5_model
import torch

SEED = 20240110
TEXT = """
u, y and dy are (batch, len, H) = (B,L,H). Parameters under their names in the source's `seq`:
Lambda (P), B (P,H) (stored as (P,H,2), the same numbers), C (H,P), or (H,2P) bidirectional, D (H),
log_step (P). y = Re(C x) + D u: no factor 2 and no conjugate pairs, all P states are kept. Step of
state p: step_scale * exp(log_step[p]); step_scale is one number per sequence or one per step,
(B,L).

The class S5 is always zoh; the case `bilinear` sets the source's other discretization by hand.
state0 goes in as `state`, `last` is what return_state returns; both are complex. Bidirectional
takes and returns no state; there the second half of C's columns reads the reversed scan.

Gradients are of loss = sum(y*dy) + sum over (re, im) of last*dlast (no last when bidirectional).
""" + lti.CONVENTION
LAYOUT = {"u": "(B,L,H)", "lambda": "(P)", "b": "(P,H)", "c": "(H,P)", "d": "(H)",
          "log_step": "(P)", "step_scale": "(B,L)", "state0": "(B,P)"}
MEANING = {"u": "input", "lambda": "`Lambda`, eigenvalues", "b": "`B`, input to state",
           "c": "`C`, state to output", "d": "`D`, skip", "log_step": "log of the step",
           "step_scale": "factor of the step", "state0": "state before the first step"}


def plain(x, kind, bidir):
    """The recurrence, by golden_lti.shared_scan, in the source's layout."""
    u = x["u"].transpose(1, 2)
    p = x["lambda"].shape[0]
    scale = x.get("step_scale", torch.ones(u.shape[0], u.shape[2], dtype=torch.float64))
    if scale.dim() == 1:
        scale = scale[:, None].expand(-1, u.shape[2])
    delta = scale[:, None, :] * torch.exp(x["log_step"])[None, :, None]
    y, last = lti.shared_scan(u, delta, x["lambda"], x["b"], x["c"][:, :p], kind,
                              x0=x.get("state0"))
    if bidir:
        back, _ = lti.shared_scan(u.flip(-1), delta.flip(-1), x["lambda"], x["b"], x["c"][:, p:],
                                  kind)
        y = y + back.flip(-1)
    return y.real.transpose(1, 2) + x["d"] * x["u"], last


def main():
    model = s5.s5_model
    model.as_complex.__defaults__ = (torch.complex128,)
    h = Header("s5_pytorch", "s5-pytorch 0.2.1 (PyPI), S5", SEED, TEXT,
               "python tests/golden/s5_pytorch.py")
    rng = Rng(SEED)
    batch, length, width, p = 2, 7, 3, 4
    base = {"u": rng.normal(batch, length, width),
            "lambda": torch.complex(-rng.uniform(0.1, 1.0, p), rng.normal(p, scale=3.0)),
            "b": lti.complex_normal(rng, p, width, scale=0.6),
            "c": lti.complex_normal(rng, width, p, scale=0.6), "d": rng.normal(width),
            "log_step": rng.uniform(-2.5, -0.3, p)}
    more = {"step_scale": rng.uniform(0.3, 1.8, batch, length),
            "state0": lti.complex_normal(rng, batch, p),
            "c": lti.complex_normal(rng, width, 2 * p, scale=0.6)}
    scalar = torch.tensor([0.5, 1.5], dtype=torch.float64)
    dy = rng.normal(batch, length, width)
    dlast = lti.complex_normal(rng, batch, p)
    h.case("in", "inputs shared by all cases", batch=batch, len=length, h=width, p=p)
    for k, v in {**base, "step_scale": more["step_scale"], "state0": more["state0"]}.items():
        put_in(h, k, v, LAYOUT[k], MEANING[k])
    put_in(h, "c_bidir", more["c"], "(H,2P)", "`C` of the case `bidir`")
    put_in(h, "scale_of_sequence", scalar, "(B)", "step_scale of the case `scaled`")
    put_in(h, "dy", dy, "(B,L,H)", "d loss / d y")
    put_in(h, "dlast", dlast, "(B,P)", "d loss / d last")

    def run(name, note, kind="zoh", extra=(), bidir=False):
        x = dict(base)
        for k in extra:
            x[k] = scalar if name == "scaled" else more[k]
        x = {k: leaf(v) for k, v in x.items()}
        layer = model.S5(width, state_width=p, bidir=bidir, bcInit="dense").double()
        seq = layer.seq
        if kind == "bilinear":
            seq.discretize = model.discretize_bilinear
        for key, at in (("Lambda", "lambda"), ("B", "b"), ("C", "c"), ("D", "d"),
                        ("log_step", "log_step")):
            wanted = torch.view_as_real(x[at]) if key == "B" else x[at]
            assert getattr(seq, key).shape == wanted.shape, key
            # the source reads its parameters by attribute: a plain tensor in the same place
            delattr(seq, key)
            setattr(seq, key, wanted)
        arguments = {"step_scale": x.get("step_scale", 1.0)}
        if not bidir:
            arguments.update(state=x.get("state0"), return_state=True)
        found = layer(x["u"], **arguments)
        y, last = (found, None) if bidir else found
        own, own_last = plain(x, kind, bidir)
        close(name + " y", y, own)
        loss, own_loss = (y * dy).sum(), (own * dy).sum()
        if not bidir:
            close(name + " last", last, own_last)
            loss, own_loss = loss + lti.inner(last, dlast), own_loss + lti.inner(own_last, dlast)
            # the source's step, too
            for i in range(batch):
                state = x["state0"][i] if "state0" in x else torch.zeros(p, dtype=torch.complex128)
                for t in range(length):
                    scale = x.get("step_scale", torch.ones(batch, length))[i]
                    out, state = seq.forward_rnn(x["u"][i, t], state,
                                                 scale if scale.dim() == 0 else scale[t])
                    close(f"{name} step {t}", out, own[i, t])
        g, own_g = grads(loss, x), grads(own_loss, x)
        h.case(name, note)
        put_out(h, "y", y, "(B,L,H)", "output")
        if not bidir:
            put_out(h, "last", last, "(B,P)", "state after the last step")
        for k in x:
            close(f"{name} d{k}", g[k], own_g[k], 1e-13)
            where = {"c": "(H,2P)"} if bidir else {"step_scale": "(B)"} if name == "scaled" else {}
            put_out(h, "grad_" + k, g[k], where.get(k, LAYOUT[k]), f"d loss / d {k}")

    run("plain", "S5(3, state_width=4), zero state, step_scale 1")
    run("bilinear", "as plain, bilinear", "bilinear")
    run("scaled", "one step_scale per sequence, (0.5, 1.5)", extra=("step_scale",))
    run("steps", "one step_scale per step, state0 given", extra=("step_scale", "state0"))
    run("bidir", "bidir=True: C (H,2P)", extra=("c",), bidir=True)
    h.write()


if __name__ == "__main__":
    main()
