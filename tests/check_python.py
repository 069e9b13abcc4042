"""What examples/python/ssm.py reads from ssm.h is what the C compiler makes of it, and its layers obey
the library's laws. check_python.sh runs this; it prints lines "ok NAME" and "FAIL NAME".

    check_python.py COMPILER LIBRARY DOUBLE_LIBRARY      from the root of the project, after `make shared shared-double`
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback

import numpy as np

sys.path.insert(0, "examples/python")
import ssm  # noqa: E402

COMPILER, *PATHS = sys.argv[1:]
LIBRARIES = {name: ssm.Library(path) for name, path in zip(("float", "double"), PATHS)}
LAYERS = [ssm.Selective, ssm.S6, ssm.Mamba, ssm.S4D, ssm.S4, ssm.S5]
SEED = 5 + (1 << 40)


def both(test):
    """The test runs for the float and for the double library."""
    test.libraries = LIBRARIES
    return test


def double(test):
    test.libraries = {"double": LIBRARIES["double"]}
    return test


def noise(library, *shape):
    return np.random.default_rng(7).standard_normal(shape).astype(library.dtype)


def raises(kind, call, status=None):
    try:
        call()
    except kind as error:
        assert status is None or error.status == status, error
    else:
        raise AssertionError("no %s" % kind.__name__)


def run_c(library, body):
    """Standard output of a C program with the implementation and `body` as its main."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "program.c"), os.path.join(folder, "program")
        with open(source, "w") as file:
            file.write("#define SSM_IMPLEMENTATION\n#include \"ssm.h\"\n#include <stdio.h>\n#include <stdlib.h>\n"
                       "int main(void)\n{\n%s    return 0;\n}\n" % body)
        real = ["-DSSM_DOUBLE"] if library.dtype == np.float64 else []
        subprocess.run([COMPILER, "-std=c99", "-O1", "-ffp-contract=off", "-I.", *real, source, "-o", program],
                       check=True)
        return subprocess.run([program], check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout


@both
def declarations(library):
    """Sizes and offsets of every struct and field, and the value of every constant."""
    header, expected, body = library.header, [], ""
    for name, struct in header.structs.items():
        body += '    printf("%%d\\n", (int)sizeof(%s));\n' % name
        expected.append((name, ssm.ctypes.sizeof(struct)))
        for field, _ in struct._fields_:
            body += '    printf("%%d\\n", (int)offsetof(%s, %s));\n' % (name, field)
            expected.append((name + "." + field, getattr(struct, field).offset))
            body += '    printf("%%d\\n", (int)sizeof(((%s *)0)->%s));\n' % (name, field)
            expected.append(("sizeof " + name + "." + field, getattr(struct, field).size))
    for name, value in header.constants.items():
        body += '    printf("%%d\\n", (int)%s);\n' % name
        expected.append((name, value))
    found = [int(line) for line in run_c(library, body).split()]
    assert len(found) == len(expected) > 300
    wrong = [(name, ours, theirs) for (name, ours), theirs in zip(expected, found) if ours != theirs]
    assert not wrong, wrong


@both
def functions(library):
    """What the header is read to declare is what the library exports."""
    path = PATHS[list(LIBRARIES.values()).index(library)]
    lines = subprocess.run(["nm", "-g", "--defined-only", path], check=True, stdout=subprocess.PIPE,
                           universal_newlines=True).stdout.splitlines()
    exported = set(line.split()[-1].lstrip("_") for line in lines if line.split()[-2] == "T")
    exported -= {"init", "fini"}  # made up by some linkers
    assert exported == set(library.header.functions), exported ^ set(library.header.functions)


@both
def same_bits_as_c(library):
    """Weights from a 64-bit seed, a forward and the state after it, printed by a C program."""
    layer = ssm.Mamba(library, d_model=6, seed=SEED)
    x = (np.arange(5 * 6).reshape(5, 6) / 8 - 2).astype(library.dtype)
    state = layer.state()
    y = layer.forward(x, state)
    text = run_c(library, """
    ssm_mamba_config config = {0};
    ssm_seqs seqs = {0};
    ssm_sizes need;
    ssm_mamba mamba;
    ssm_real x[5 * 6], y[5 * 6], *params, *state;
    size_t i;
    ssm_memory bound, work;
    config.d_model = 6;
    seqs.batch = 1;
    seqs.len = 5;
    if (ssm_mamba_sizes(&config, &seqs, &need) != SSM_OK) return 1;
    params = (ssm_real *)malloc(need.params);
    bound = ssm_memory_of(malloc(need.bound), need.bound);
    state = (ssm_real *)calloc(1, need.state);
    work = ssm_memory_of(malloc(need.work), need.work);
    for (i = 0; i < 5 * 6; ++i) x[i] = (ssm_real)i / 8 - 2;
    ssm_mamba_init(&config, params, ((uint64_t)1 << 40) + 5);
    ssm_mamba_bind(&mamba, &config, params, bound);
    ssm_mamba_forward(&mamba, state, x, y, &seqs, work);
    for (i = 0; i < need.params / sizeof *params; ++i) printf("%a\\n", (double)params[i]);
    for (i = 0; i < 5 * 6; ++i) printf("%a\\n", (double)y[i]);
    for (i = 0; i < need.state / sizeof *state; ++i) printf("%a\\n", (double)state[i]);
""")
    ours = np.concatenate([layer.flat, y.ravel(), state.ravel()]).astype(np.float64)
    assert [float.fromhex(word) for word in text.split()] == ours.tolist()


@both
def names(library):
    mamba = ssm.Mamba(library, d_model=8, d_state=4, d_conv=3, pre_norm=1, proj_bias=1)
    shapes = {name: view.shape for name, view in mamba.params.items()}
    assert shapes == {
        "norm.weight": (8,), "in_proj.weight": (32, 8), "in_proj.bias": (32,), "conv1d.weight": (16, 1, 3),
        "conv1d.bias": (16,), "x_proj.weight": (9, 16), "dt_proj.weight": (16, 1), "dt_proj.bias": (16,),
        "A_log": (16, 4), "D": (16,), "out_proj.weight": (8, 16), "out_proj.bias": (8,)}, shapes
    assert mamba.config.d_inner == 16 and mamba.config.dt_rank == 1
    assert np.allclose(mamba.params["A_log"], np.log(np.arange(1, 5)))
    assert sum(view.size for view in mamba.params.values()) == mamba.flat.size


@both
def weights(library):
    """Views write through; bind makes a change count; load copies and checks."""
    layer, x = ssm.S6(library, d_model=5, seed=1), noise(library, 3, 5)
    first = layer.forward(x)
    layer.params["D"][...] = 3
    assert layer.flat.tolist().count(3) == 5
    layer.bind()
    assert (layer.forward(x) != first).any()
    other = ssm.S6(library, d_model=5, seed=2)
    assert (other.forward(x) != layer.forward(x)).any()
    other.load({name: view.astype(np.float64) for name, view in layer.params.items()})
    assert (other.forward(x) == layer.forward(x)).all() and (other.params["D"] == 3).all()
    raises(KeyError, lambda: other.load({}))
    raises(ValueError, lambda: other.load(dict(layer.params, D=np.zeros(4))))


@both
def laws(library):
    """step, forward, forward in pieces, packed, and from threads: the same bits, in every layer."""
    for kind in LAYERS + [ssm.RGLRU]:
        layer = kind(library, d_model=6, seed=3)
        x = noise(library, 2, 9, 6)
        whole, state = layer.state(2), layer.state(2)
        y = layer.forward(x, whole)
        assert np.isfinite(y).all() and np.abs(y).max() > 1e-3
        assert (layer.forward(x) == y).all()
        assert (np.stack([layer.step(state, x[:, t]) for t in range(9)], 1) == y).all(), kind
        assert (state == whole).all()
        state = layer.state(2)
        pieces = [layer.forward(piece, state) for piece in (x[:, :4], x[:, 4:])]
        assert (np.concatenate(pieces, 1) == y).all() and (state == whole).all(), kind
        packed = layer.forward(np.concatenate([x[0], x[1, :5]]), start=[0, 9, 14])
        assert (packed[:9] == y[0]).all() and (packed[9:] == y[1, :5]).all(), kind
        assert (layer.forward(x[0]) == y[0]).all()
        states, first = layer.state(4), layer.state(2)
        apart = layer.forward(np.concatenate([x[:, :4], x[:1, :4]]), states, slot=[3, 0, -1])
        assert (apart[:2] == layer.forward(x[:, :4], first)).all() and not apart[2].any(), kind
        assert (states[[3, 0]] == first).all() and not states[1:3].any(), kind
        results = [None] * 4

        def run(i):
            results[i] = layer.forward(x)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all((result == y).all() for result in results), kind


@double
def gradients(library):
    """Of the outputs and of the state after the sequence, along a random direction of everything at once."""
    rng = np.random.default_rng(11)
    for kind in LAYERS:
        layer = kind(library, d_model=4, d_state=4, seed=4)
        x, dy = noise(library, 2, 7, 4), rng.standard_normal((2, 7, 4))
        start = rng.standard_normal(layer.state(2).shape)
        dstate = rng.standard_normal(start.shape)
        flat = layer.flat.copy()
        state = start.copy()
        recorded = layer.record(x, state)
        found = layer.backward(dy, dstate)
        assert (recorded == layer.forward(x, start.copy())).all()
        directions = {name: rng.choice([-1.0, 1.0], value.shape) for name, value in found.items()}

        def loss(step):
            for name, view in layer.params.items():
                view += step * directions[name]
            layer.bind()
            state = start + step * directions["state"]
            value = (layer.forward(x + step * directions["x"], state) * dy).sum() + (state * dstate).sum()
            layer.flat[...] = flat
            return value

        slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
        layer.bind()
        ours = sum((found[name] * directions[name]).sum() for name in found)
        size = np.sqrt(sum((gradient**2).sum() for gradient in found.values()))
        assert abs(slope - ours) <= 1e-6 * size, (kind, slope, ours, size)
        assert all(np.abs(gradient).max() > 0 for gradient in found.values()), kind
        # Without a state there is no gradient of one; the tape is not used up.
        layer.record(x)
        assert "state" not in layer.backward(dy)
        assert (layer.backward(dy)["x"] == layer.backward(dy)["x"]).all()


@both
def errors(library):
    """The status comes as an exception; what C could not check is checked here."""
    raises(ssm.Error, lambda: ssm.Mamba(library), "SSM_ERR_CONFIG")
    raises(ssm.Error, lambda: ssm.S4D(library, d_model=4, d_state=5), "SSM_ERR_CONFIG")
    raises(TypeError, lambda: ssm.Mamba(library, d_model=4, dstate=5))
    raises(ValueError, lambda: ssm.Mamba(library, d_model=4, disc="nearest"))
    two_ways = ssm.S5(library, d_model=4, d_state=4, bidirectional=1)
    raises(ssm.Error, lambda: two_ways.step(two_ways.state(), np.ones(4)), "SSM_ERR_UNSUPPORTED")
    layer = ssm.Mamba(library, d_model=4)
    other = np.float32 if library.dtype == np.float64 else np.float64
    reals = layer.state().size
    frozen = layer.state()
    frozen.flags.writeable = False
    strided = np.zeros((reals, 2), library.dtype)[:, 0]
    for state in (layer.state(2), layer.state().astype(other), strided, frozen, [0.0] * reals):
        raises(ValueError, lambda: layer.step(state, np.ones(4)))
        raises(ValueError, lambda: layer.forward(np.ones((3, 4)), state))
    raises(ValueError, lambda: layer.step(None, np.ones(4)))
    raises(ValueError, lambda: layer.forward(np.ones((3, 5))))
    raises(ValueError, lambda: layer.forward(np.ones(4)))
    raises(ValueError, lambda: layer.forward(np.ones((3, 4)), step_scale=np.ones(2)))
    raises(ssm.Error, lambda: layer.forward(np.ones((3, 4)), start=[0, 4]), "SSM_ERR_SHAPE")
    raises(ValueError, lambda: layer.backward(np.ones((3, 4))))
    layer.record(np.ones((3, 4)))
    raises(ValueError, lambda: layer.backward(np.ones((2, 4))))
    with tempfile.TemporaryDirectory() as folder:
        later = os.path.join(folder, "later.h")
        with open("ssm.h") as source, open(later, "w") as copy:
            copy.write(source.read().replace("#define SSM_VERSION_MINOR ", "#define SSM_VERSION_MINOR 9"))
        path = PATHS[list(LIBRARIES.values()).index(library)]
        raises(ValueError, lambda: ssm.Library(path, later))


@both
def configurations(library):
    assert library.value("ssm_disc", "zoh") == library.SSM_DISC_ZOH == 1
    assert library.value("ssm_s5_activation", "half_glu2") == library.SSM_S5_HALF_GLU2 == 1
    x = noise(library, 4, 4)
    zoh, euler = (ssm.S6(library, d_model=4, disc=disc).forward(x) for disc in ("zoh", library.SSM_DISC_EULER))
    assert (zoh != euler).any() and (ssm.S6(library, d_model=4).forward(x) == euler).all()
    preset = ssm.S5(library, d_model=4, d_state=6, preset="tracetorch")
    assert preset.config.real_state == 1 and preset.params["A_log"].shape == (6,)
    lru = ssm.S5(library, d_model=4, d_state=6, lru=1, activation="none")
    assert lru.params["gamma_log"].shape == (6,) and lru.params["C_im"].shape == (4, 6)
    layer = ssm.S5(library, d_model=4)
    ones, half = layer.forward(x, step_scale=np.ones(4)), layer.forward(x, step_scale=np.full(4, 0.5))
    assert (ones == layer.forward(x)).all() and (half != ones).any()
    # Lists become arrays that live as long as the struct which points to them.
    _, seqs, _ = layer._sequences(x, [0, 3, 4], [1, 1, 1, 1])
    assert [array.ctypes.data for array in seqs.keep] == [seqs.start, seqs.step_scale]


@both
def ops(library):
    """A function without a wrapper: the transform, with a size asked for by pointer."""
    signal, size = noise(library, 16, 2), ssm.ctypes.c_size_t()
    expected = np.fft.fft(signal[:, 0].astype(np.float64) + 1j * signal[:, 1])
    library.ssm_fft_size(16, ssm.ctypes.byref(size))
    work = np.empty(size.value, np.uint8)
    library.ssm_fft(signal.ctypes.data, 16, 0, library.ssm_memory_of(work.ctypes.data, work.nbytes))
    assert np.abs(signal[:, 0] + 1j * signal[:, 1] - expected).max() < 1e-5
    raises(ssm.Error, lambda: library.ssm_fft(signal.ctypes.data, 15, 0, library.ssm_memory()), "SSM_ERR_SHAPE")
    view = library.ssm_in_btc(signal.ctypes.data, 3, 5)  # structs by value
    assert (view.batch, view.time, view.chan) == (15, 5, 1) and view.data == signal.ctypes.data


@both
def keywords(library):
    """Fields that Python has no syntax for: `in` of a linear layer, `lambda` of the scan."""
    linear = library.ssm_linear(in_=3, out=4)
    assert linear.in_ == 3 and getattr(linear, "in") == 3
    linear.in_ = 5
    assert getattr(linear, "in") == 5
    scan = library.ssm_selective_scan()
    scan.lambda_ = library.view(noise(library, 1, 2, 3), "btc")
    assert scan.lambda_.time == 3
    raises(AttributeError, lambda: library.ssm_linear(inn=3))


@both
def views(library):
    """Ops on NumPy arrays where they lie: a linear layer by rows, the selective scan through transposed and broadcast
    arrays, packed offsets, and what is refused."""
    x, weight, bias = noise(library, 5, 7), noise(library, 4, 7), noise(library, 4)
    y = np.zeros((5, 6), library.dtype)
    linear = library.ssm_linear(in_=7, out=4, weight=weight, bias=bias)
    library.ssm_linear_forward(linear, library.rows(x), library.rows_out(y[:, 1:5]), 5)
    assert np.allclose(y[:, 1:5], x @ weight.T + bias, atol=1e-5) and not y[:, 0].any() and not y[:, 5].any()
    batch, length, dim, states = 2, 9, 3, 4
    u, B = noise(library, batch, dim, length), noise(library, batch, length, states)
    delta = np.broadcast_to(np.asarray(0.1, library.dtype), (batch, length, dim))
    A, out, last = -np.abs(noise(library, dim, states)), np.zeros_like(u), np.zeros((batch, dim, states), library.dtype)
    scan = library.ssm_selective_scan(
        batch=batch, len=length, dim=dim, d_state=states, u=library.view(u, "bct"), delta=library.view(delta, "btc"),
        A=library.view(A, "cn"), B=library.view(B, "btn"), C=library.view(B, "btn"), y=library.out(out, "bct"),
        h_last=library.out(last, "bcn"))
    library.ssm_selective_scan_forward(scan, library.memory(1 << 16))
    h, expected = np.zeros((batch, dim, states)), np.zeros_like(u)
    for t in range(length):
        h = np.exp(0.1 * A) * h + 0.1 * B[:, t, None, :] * u[:, :, t, None]
        expected[:, :, t] = (h * B[:, t, None, :]).sum(-1)
    assert np.allclose(out, expected, atol=1e-5) and np.allclose(last, h, atol=1e-5)
    packed = library.ssm_mean(batch=2, len=5, dim=7, start=np.array([0, 2, 5], np.uintp))
    means = np.zeros((2, 7), library.dtype)
    library.ssm_mean_forward(packed, library.rows(x), library.rows_out(means))
    assert np.allclose(means, [x[:2].mean(0), x[2:].mean(0)], atol=1e-6)
    other = np.float32 if library.dtype == np.float64 else np.float64
    raises(TypeError, lambda: library.ssm_linear(weight=weight.astype(other)))
    raises(TypeError, lambda: library.ssm_linear(weight=weight.T))
    raises(TypeError, lambda: library.view(x.astype(other), "tc"))
    raises(ValueError, lambda: library.view(x, "btc"))
    raises(TypeError, lambda: library.ssm_selective_scan(u=x))
    raises(TypeError, lambda: library.out(np.broadcast_to(x, (5, 7)), "tc"))
    raises(TypeError, lambda: library.rows(x.T))
    raises(ssm.ctypes.ArgumentError, lambda: library.ssm_fft(x.astype(other), 4, 0, library.memory(64)))


@both
def three_lines(library):
    """The module, the library and ssm.h in one folder, and no path set."""
    path = PATHS[list(LIBRARIES.values()).index(library)]
    with tempfile.TemporaryDirectory() as folder:
        for file in ("examples/python/ssm.py", "ssm.h"):
            shutil.copy(file, folder)
        name = os.path.basename(path).replace("_double", "")
        shutil.copy(path, os.path.join(folder, name))
        program = ("import ssm, numpy as np\nlayer = ssm.Mamba(d_model=8)\n"
                   "print(layer.forward(np.ones((3, 8))).shape, layer.library.dtype, ssm.default_path())")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        text = subprocess.run([sys.executable, "-c", program], check=True, cwd=folder, env=environment,
                              stdout=subprocess.PIPE, universal_newlines=True).stdout
        assert text.split()[:3] == ["(3,", "8)", str(library.dtype)], text
        assert os.path.realpath(text.split()[3]) == os.path.realpath(os.path.join(folder, name)), text


def main():
    failed = False
    for test in (declarations, functions, same_bits_as_c, names, weights, laws, gradients, errors, configurations, ops,
                 keywords, views, three_lines):
        for name, library in test.libraries.items():
            try:
                test(library)
                print("ok   python/%s-%s" % (test.__name__, name))
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print("FAIL python/%s-%s" % (test.__name__, name))
                failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
