"""transitions.h: golden tables of the functions around the layers: GELU, exact (erf) and tanh
approximation, SiLU, with derivatives; erf, sigmoid, softplus; from mpmath in 40 digits, compared
with torch in float64.

    python tests/golden/transitions.py

Needs torch and mpmath. The gated variants stand with their layers: s4_statespaces.h (`layer`),
s5_linderman.h (`act_`), lrnnx_s4.h (`y`).
"""

from golden import Header, check

import mpmath
import torch

TEXT = """
x is exact in float and double; results are 40-digit values rounded to double. tanh form of GELU:
0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), jax.nn.gelu's default and S5's; erf form: x Phi(x),
torch.nn.GELU's default and S4's.
"""
POINTS = [-40.0, -20.0, -12.0, -9.0, -8.0, -6.5, -5.0, -4.0, -3.0, -2.5, -2.0, -1.75, -1.5, -1.25,
          -1.0, -0.75, -0.5, -0.375, -0.25, -0.125, -2.0 ** -6, -2.0 ** -12, -2.0 ** -24]


def main():
    h = Header("transitions", "formulas, mpmath 40 digits", "none", TEXT,
               "python tests/golden/transitions.py")
    x = torch.tensor(POINTS + [0.0] + [-v for v in reversed(POINTS)], dtype=torch.float64)
    mpmath.mp.dps = 40
    root = mpmath.sqrt(2 / mpmath.pi)
    cubic = mpmath.mpf("0.044715")

    def gelu_tanh(v):
        return v * mpmath.exp(2 * root * (v + cubic * v ** 3)) / (
            1 + mpmath.exp(2 * root * (v + cubic * v ** 3)))

    def gelu_tanh_d(v):
        s = 1 / (1 + mpmath.exp(-2 * root * (v + cubic * v ** 3)))
        minus = 1 / (1 + mpmath.exp(2 * root * (v + cubic * v ** 3)))
        return s + 2 * v * s * minus * root * (1 + 3 * cubic * v ** 2)

    def phi(v):
        return mpmath.erfc(-v / mpmath.sqrt(2)) / 2

    def density(v):
        return mpmath.exp(-v * v / 2) / mpmath.sqrt(2 * mpmath.pi)

    def sigmoid(v):
        return 1 / (1 + mpmath.exp(-v))

    f = torch.nn.functional
    tables = (
        ("gelu_erf", lambda v: v * phi(v), f.gelu, "GELU, exact"),
        ("gelu_erf_d", lambda v: phi(v) + v * density(v), None, "derivative of gelu_erf"),
        ("gelu_tanh", gelu_tanh, lambda t: f.gelu(t, approximate="tanh"),
         "GELU, tanh approximation"),
        ("gelu_tanh_d", gelu_tanh_d, None, "derivative of gelu_tanh"),
        ("erf", mpmath.erf, torch.erf, "erf"),
        ("sigmoid", sigmoid, torch.sigmoid, "sigmoid"),
        ("silu", lambda v: v * sigmoid(v), f.silu, "SiLU"),
        ("silu_d", lambda v: sigmoid(v) * (1 + v * sigmoid(-v)), None, "derivative of silu"),
        ("softplus", lambda v: mpmath.log1p(mpmath.exp(v)), None, "log(1 + exp x)"))
    h.case("table", "functions at the points x, from -40 to 40", count=len(x))
    h.input("x", x, "(T)", "points")
    found = {}
    for name, exact, source, note in tables:
        values = [float(exact(mpmath.mpf(v))) for v in x.tolist()]
        # the smallest of them vanish in float, and below the normal range in double
        values = [0.0 if abs(v) < 1e-300 else v for v in values]
        found[name] = torch.tensor(values, dtype=torch.float64)
        if source:
            check(name, source(x), found[name], 1e-15)
        elif name.endswith("_d"):
            p = x.clone().requires_grad_(True)
            base = {"gelu_erf_d": f.gelu, "gelu_tanh_d": lambda t: f.gelu(t, approximate="tanh"),
                    "silu_d": f.silu}[name]
            check(name, torch.autograd.grad(base(p).sum(), p)[0], found[name], 5e-15)
        else:
            check(name, torch.logaddexp(x, torch.zeros_like(x)), found[name], 1e-15)
        h.output(name, found[name], "(T)", note)
    h.write()


if __name__ == "__main__":
    main()
