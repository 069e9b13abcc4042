"""lrnnx_s4.h: golden vectors of lrnnx 1.0.0.post1, lrnnx.models.lti.S4 (diagonal plus low rank)
and S4D: kernels, layer outputs, steps, states; run in float64 / complex128.

    pip download --no-deps --no-binary :all: lrnnx==1.0.0.post1   # unpack in DIR, not built
    python tests/golden/lrnnx_s4.py --peers DIR

Needs torch, einops and opt_einsum. Without its CUDA extension and pykeops the source takes its
plain Cauchy and Vandermonde sums.
"""

import golden_lti as lti  # first: golden takes this folder off the search path
import golden
from golden import Header, Rng, check
from golden_lti import close, put_in, put_out

import importlib
import os

import torch

SEED = 20240111
LENGTHS = (1, 2, 7, 16, 33)
TEXT = """
Parameters under the source's names and in its layout: inv_dt (H,1) = log dt; A_real, A_imag (H,N)
with A = -exp(A_real) - i A_imag; B (1,H,N), C (1,H,N), P (1,H,N), complex (stored as (..,2), the
same numbers); D (1,H). N counts conjugate pairs (the source's d_state is 2N). x, y are
(batch, len, H) (transposed=False). kernel y = 2 Re sum C s, A = diag - P P^H with the conjugate
half appended, bilinear; S4D: A = diag, zoh or bilinear.

`kernel` is K_l = C Abar^l Bbar, l < 33. The source computes it for one length at a time: checked
with fresh layers of l_max 1, 2, 7, 16 and 33 (each is the head of the longest) and, S4, for
lengths that make it double (7 to 14 and 28). `c_tilde_L`: S4 replaces its parameter C in place by
C~ = (I - Abar^L)^T C at the first forward or step, L = l_max; a saved model holds C~ and L
(`l_kernel`). The array C is the plain one.

`conv` is the convolution plus D x; `y` the layer's output: linear(GELU(GELU(conv))), exact (erf)
GELU, twice, and GELU again after the linear: the source's final_act="glu" is not used, there is
no GLU. `y_state`, `last`: the same from state0 (given as `state`), and the state returned,
(B,H,N), one of each pair. The steps (S4: modes dense, diagonal and linear) give y too.

`conv_state` is what the first GELU is given, from state0. Gradients (autograd through the source)
are of loss = sum(conv_state*dy) + sum over (re, im) of last*dlast. S4's are those of the plain C:
they go on through the source's change of C to C~, whose torch.no_grad() is taken away.

All of these agree with the dense recurrence of this script, so nothing is left out. Not covered,
because wrong there: is_real=True (the kernel is doubled); sequences longer than l_max (the kernel
is cut off); rate other than 1 with S4 (C~ is of the unscaled step). The inverted bilinear rule of
lrnnx is in core/discretization.py, which S4 and S4D do not use (its S5 and others do).
""" + lti.CONVENTION


def gelu(x):
    return x * 0.5 * torch.erfc(-x / 2 ** 0.5)


def run(h, rng, name, note, make, low_rank, disc):
    batch, length, width, n = 2, 9, 3, 2
    real = torch.float64
    given = {"inv_dt": rng.uniform(-3.0, -0.5, width, 1),
             "A_real": rng.uniform(-1.5, 0.3, width, n),
             "A_imag": rng.uniform(0.2, 8.0, width, n),
             "B": lti.complex_normal(rng, 1, width, n), "C": lti.complex_normal(rng, 1, width, n)}
    if low_rank:
        given["P"] = lti.complex_normal(rng, 1, width, n, scale=0.7)
    given["D"] = rng.normal(1, width)
    given["output_linear.0.weight"] = rng.normal(width, width, scale=0.6)
    given["output_linear.0.bias"] = rng.normal(width, scale=0.3)
    x = rng.normal(batch, length, width)
    state0 = lti.complex_normal(rng, batch, width, n)

    def layer(l_max):
        m = make(l_max).double().eval()
        names = dict(m.named_parameters())
        assert set(names) == set(given), set(names) ^ set(given)
        with torch.no_grad():
            for key, p in names.items():
                assert p.shape == lti.flat(given[key]).shape, key
                p.copy_(lti.flat(given[key]))
        return m

    def system(q):
        """The definition: Abar and Bbar of every channel."""
        lam = torch.complex(-torch.exp(q["A_real"]), -q["A_imag"])
        dt, b = torch.exp(q["inv_dt"])[:, 0], q["B"][0]
        abar, bbar = [], []
        for k in range(width):
            if disc == "zoh":
                z, gamma = lti.discretize("zoh", dt[k], lti.pair(lam[k]))
                one, two = torch.diag(z), gamma * lti.pair(b[k])
            else:
                one, two = lti.dplr_dense(lam[k], q["P"][0, k] if low_rank else None, b[k], dt[k])
            abar.append(one)
            bbar.append(two)
        return abar, bbar

    abar, bbar = system(given)
    c, d = given["C"][0], given["D"][0]
    own_k = torch.stack([lti.dense_kernel(abar[k], bbar[k], c[k], 33) for k in range(width)])
    u = x.transpose(1, 2)
    own_conv, own_zero_last = lti.dense_run(u, abar, bbar, c, d)
    own_conv_state, own_last = lti.dense_run(u, abar, bbar, c, d, state0)
    w, bias = given["output_linear.0.weight"], given["output_linear.0.bias"]

    def head(conv):
        return gelu(gelu(gelu(conv.transpose(1, 2))) @ w.T + bias)

    kernels, tilde = {}, {}
    with torch.no_grad():
        for size in LENGTHS:
            m = layer(size)
            kernels[size] = m.layer.kernel(L=size)[0][0]
            close(f"{name} kernel {size}", kernels[size], own_k[:, :size], 1e-12)
            if low_rank:
                tilde[size] = torch.view_as_complex(m.C)[0].clone()
                for k in range(width):
                    power = torch.linalg.matrix_power(abar[k], size)
                    want = lti.pair(c[k]) - power.T @ lti.pair(c[k])
                    close(f"{name} c_tilde {size}", tilde[size][k], want[:n], 1e-12)
        if low_rank:
            m = layer(7)
            for size in (7, 14, 20):
                close(f"{name} doubled {size}", m.layer.kernel(L=size)[0][0], own_k[:, :size],
                      1e-12)
        m = layer(length)
        y, _ = m(x)
        check(name + " y", y, head(own_conv), 1e-13)
        y_state, last = m(x, state=state0)
        check(name + " y_state", y_state, head(own_conv_state), 1e-13)
        close(name + " last", last, own_last, 1e-13)
        for mode in ("dense", "diagonal", "linear") if low_rank else ("diagonal",):
            m = layer(length)
            cache = m.allocate_inference_cache(batch)
            if low_rank:
                m.layer.kernel._setup_step(mode=mode)
                cache = {"lrnn_state": m.default_state(batch)}
            for t in range(length):
                out, cache = m.step(x[:, t], cache)
                check(f"{name} step {mode} {t}", out, y[:, t], 1e-12)
            if not low_rank or mode == "linear":
                close(name + " step last", cache["lrnn_state"], own_zero_last, 1e-13)

    # gradients: of what the first GELU is given, and of the last state; numbers of their own
    more = Rng(SEED + 1)
    dy, dlast = more.normal(batch, length, width), lti.complex_normal(more, batch, width, n)
    m = layer(length)
    q = {k: p for k, p in m.named_parameters() if not k.startswith("output_linear")}
    q.update(x=lti.leaf(x), state0=lti.leaf(state0))
    if low_rank:
        golden.give(m.layer.kernel, "C", m.C.clone())
    seen = []
    m.conv_activation.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        _, end = m(q["x"], state=q["state0"])
        conv_state = seen[0]
        g = lti.grads((conv_state * dy).sum() + lti.inner(end, dlast), q)
    close(name + " conv_state", conv_state, own_conv_state.transpose(1, 2), 1e-13)
    own = {k: lti.leaf(given.get(k, v)) for k, v in q.items()}
    own["x"], own["state0"] = lti.leaf(x), lti.leaf(state0)
    out, end = lti.dense_run(own["x"].transpose(1, 2), *system(own), own["C"][0], own["D"][0],
                             own["state0"])
    own_g = lti.grads((out.transpose(1, 2) * dy).sum() + lti.inner(end, dlast), own)
    for key, value in g.items():
        close(f"{name} d{key}", value, lti.flat(own_g[key]), 1e-12)

    h.case(name, note, batch=batch, len=length, h=width, n=n, kernel=33)
    layouts = {"inv_dt": "(H,1)", "A_real": "(H,N)", "A_imag": "(H,N)", "D": "(1,H)"}
    for key, v in given.items():
        put_in(h, key, v, layouts.get(key, "(1,H,N)" if v.is_complex() else ""),
               f"parameter `{key}`" + (", plain, before the source changes it"
                                       if key == "C" and low_rank else ""))
    put_in(h, "x", x, "(B,L,H)", "input")
    put_in(h, "state0", state0, "(B,H,N)", "state before the first step, for y_state and last")
    put_out(h, "kernel", kernels[33], "(H,L)", "kernel, l < 33")
    for size, v in tilde.items():
        put_out(h, f"c_tilde_{size}", v, "(H,N)", f"C~ for l_max {size}")
    put_out(h, "conv", own_conv.transpose(1, 2).contiguous().to(real), "(B,L,H)",
            "convolution + D x, of this script's recurrence")
    put_out(h, "y", y, "(B,L,H)", "layer output, zero state")
    put_out(h, "y_state", y_state, "(B,L,H)", "layer output from state0")
    put_out(h, "last", last, "(B,H,N)", "state after the last step, from state0")
    put_in(h, "dy", dy, "(B,L,H)", "d loss / d conv_state")
    put_in(h, "dlast", dlast, "(B,H,N)", "d loss / d last")
    put_out(h, "conv_state", conv_state, "(B,L,H)", "convolution + D x, from state0")
    for key, value in g.items():
        put_out(h, "grad_" + key, value, "", f"d loss / d {key}")


def main():
    folder = golden.peers_folder("lrnnx-1.0.0.post1", r"lrnnx-.*")
    golden.bare_package("lrnnx", os.path.join(folder, "lrnnx"))
    for name in ("ops", "core", "models", "models.lti"):
        golden.bare_package("lrnnx." + name, os.path.join(folder, "lrnnx", *name.split(".")))
    s4 = importlib.import_module("lrnnx.models.lti.s4").S4
    s4d = importlib.import_module("lrnnx.models.lti.s4d").S4D
    kernels = importlib.import_module("lrnnx.ops.s4_kernel_interface")
    golden.with_gradients(kernels.S4Kernel)

    h = Header("lrnnx_s4", "lrnnx 1.0.0.post1 (PyPI source archive), models.lti.S4 and S4D", SEED,
               TEXT, "python tests/golden/lrnnx_s4.py --peers DIR")
    rng = Rng(SEED)
    common = {"d_model": 3, "d_state": 4, "transposed": False, "verbose": False}
    run(h, rng, "s4", "S4(3, d_state=4): diagonal plus rank one, bilinear",
        lambda l: s4(l_max=l, **common), True, "bilinear")
    for disc in ("zoh", "bilinear"):
        run(h, rng, "s4d_" + disc, f"S4D(3, d_state=4, disc='{disc}')",
            lambda l: s4d(l_max=l, disc=disc, **common), False, disc)
    h.write()


if __name__ == "__main__":
    main()
