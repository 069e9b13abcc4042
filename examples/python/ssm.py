"""ssm.h from Python: ctypes and NumPy, nothing to build but the library itself (`make shared`).

    import numpy as np
    import ssm

    layer = ssm.Mamba(d_model=64, seed=42)
    y = layer.forward(np.ones((2, 100, 64)))        # [batch, len, d_model]

The library and ssm.h are looked for beside this file, then where the project has them (build/ and its root); so these
three files in one folder are an installation. Another library, or the one in double precision, goes first:

    layer = ssm.Mamba(ssm.Library(double=True), d_model=64)

    state = layer.state(2)                          # two streams, at their start
    y0 = layer.step(state, np.ones((2, 64)))        # the same bits as y[:, 0]

    y = layer.record(x)                             # forward that backward can follow
    gradients = layer.backward(dy)                  # gradients["A_log"] ..., gradients["x"]

Types, constants and functions are read from ssm.h when the library is loaded, so there is no second
copy of a declaration here: what the header has, `library` has, under the same name (structs, enums,
numbers and all functions, ops included). A status below zero is raised as `Error`. Fields whose names Python keeps
for itself have an underscore at the end: in_, lambda_.

Arrays are views, never copied: `library.view(u, "btc")` is an ssm_in of the array's own strides, transposed and
broadcast ones too (`out` an ssm_out; `rows` and `rows_out` those of two dimensions; `memory` an ssm_memory). Pointers
in structs and arguments take contiguous arrays of their type, and structs stand for their addresses:

    library = ssm.default_library()
    scan = library.ssm_selective_scan(batch=2, len=100, dim=64, d_state=16, u=library.view(u, "btc"), ...)
    library.ssm_selective_scan_forward(scan, library.memory(bytes))

Arrays are copied to the library's real type where they have another one, except states, which are
updated in place and must have it. forward and step share no memory but the weights, and calls hold no
lock: one layer may run in many threads. record and backward are a pair, for one thread at a time.
"""

import ctypes
import keyword
import os
import re

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))

_C_TYPES = {
    "char": ctypes.c_char,
    "signed char": ctypes.c_byte,
    "unsigned char": ctypes.c_ubyte,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "int": ctypes.c_int,
    "unsigned": ctypes.c_uint,
    "unsigned int": ctypes.c_uint,
    "size_t": ctypes.c_size_t,
    "ptrdiff_t": ctypes.c_ssize_t,
    "int8_t": ctypes.c_int8,
    "uint8_t": ctypes.c_uint8,
    "int16_t": ctypes.c_int16,
    "uint16_t": ctypes.c_uint16,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "void": None,
}


class Error(Exception):
    """A call that the library refused; `status` is the name of its ssm_status."""

    def __init__(self, status, text):
        super().__init__("%s: %s" % (status, text))
        self.status = status


# ---------------------------------------------------------------------------------- arrays as arguments

class Struct(ctypes.Structure):
    """A struct of the header. Pointers take arrays, and the struct holds on to what it points to."""

    def __setattr__(self, name, value):
        name = name[:-1] if name.endswith("_") and keyword.iskeyword(name[:-1]) else name
        if not any(name == field[0] for field in self._fields_):
            if name != "keep":
                raise AttributeError("%s has no field %s" % (type(self).__name__, name))
            self.__dict__[name] = value
            return
        self.__dict__.setdefault("kept", {})[name] = value
        if isinstance(value, np.ndarray):
            value = address(value, self._arrays.get(name), "%s.%s" % (type(self).__name__, name))
        super().__setattr__(name, value)


def address(array, dtype, what):
    """Of the first element, if the array is one that a pointer to `dtype` can stand for; None: any type."""
    if dtype is None:
        raise TypeError("%s takes no array: see Library.view, rows and memory" % what)
    if not array.flags.c_contiguous or (dtype != "any" and array.dtype != dtype):
        raise TypeError("%s takes a contiguous array of %s, not %s%s" % (
            what, dtype, array.dtype, "" if array.flags.c_contiguous else " with strides"))
    return array.ctypes.data


def pointer_to(dtype, what):
    """The type of an argument that is a pointer: takes what a void pointer takes, structs and arrays."""
    def from_param(value):
        if isinstance(value, np.ndarray):
            return ctypes.c_void_p(address(value, dtype, what))
        if isinstance(value, ctypes.Structure):
            return ctypes.byref(value)
        return ctypes.c_void_p.from_param(value)
    return type("pointer", (), {"from_param": staticmethod(from_param)})


# ---------------------------------------------------------------------------------- the header

class Header:
    """What the public part of ssm.h declares, as ctypes."""

    def __init__(self, path, real):
        with open(path, encoding="ascii") as file:
            text = file.read().split("#endif /* SSM_H */")[0]
        text = re.sub(r"^#ifdef SSM_CUDA$.*?^#endif /\* SSM_CUDA \*/$", "", text, flags=re.S | re.M)  # not in the library
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S).replace("\\\n", " ")
        self.constants = {}
        self.structs = {}
        self.enums = {}      # name of the type: names of its values
        self.functions = {}  # name: (type of the result, types of the arguments, declared result)
        self.declared = {}   # struct: {field: its type's name in C}
        self.types = dict(_C_TYPES, ssm_real=real)
        self.statuses = dict((int(value), name) for name, value in re.findall(r"X\((SSM_\w+), (-?\d+),", text))
        for value, name in self.statuses.items():
            self.constants[name] = value
        for name, value in re.findall(r"^#define (SSM_\w+) (\d+) *$", text, flags=re.M):
            self.constants[name] = int(value)
        text = re.sub(r"^#.*", "", text, flags=re.M)
        for kind, name, body, other, alias in re.findall(
                r"typedef (enum|struct) (\w+) \{(.*?)\} \2;|typedef ([\w ]+) (\w+);", text, flags=re.S):
            if kind == "enum":
                self._enum(name, body)
            elif kind == "struct":
                self._struct(name, body)
            elif alias != "ssm_real":  # declared twice, for float and for double
                self.types[alias] = self.types[other]
        for result, name, arguments in re.findall(r"SSM_API ([\w ]+?\**)(\w+)\(([^;]*)\);", text):
            arguments = [] if arguments == "void" else [
                self._argument(name, argument) for argument in re.split(r",(?![^()]*\))", arguments)]
            self.functions[name] = (self._field(result + "result")[1], arguments, result.strip())

    def _argument(self, function, declaration):
        name, kind, declared = self._field(declaration)
        return pointer_to(self._array(declared), "%s: %s" % (function, name)) if kind is ctypes.c_void_p else kind

    def _array(self, declared):
        """The element type of arrays for a pointer declared so; None if it takes none."""
        base, stars = declared.rsplit(" ", 1) if declared.endswith("*") else (declared, "")
        if stars != "*" or base not in self.types or base in self.structs:
            return None
        return "any" if base == "void" else np.dtype(self.types[base])

    def _enum(self, name, body):
        value = 0
        self.types[name] = ctypes.c_int
        self.enums[name] = []
        for member, given in re.findall(r"\b(SSM_\w+)(?: = (-?\d+))?\s*(?:,|$)", body):
            value = int(given) if given else value
            self.constants[member] = value
            self.enums[name].append(member)
            value += 1

    def _struct(self, name, body):
        fields = [self._field(field) for field in body.split(";") if field.strip()]
        struct = type(name, (Struct,), {"_fields_": [field[:2] for field in fields],
                                        "_arrays": {field[0]: self._array(field[2]) for field in fields}})
        for field in fields:
            if keyword.iskeyword(field[0]):
                setattr(struct, field[0] + "_", getattr(struct, field[0]))
        self.structs[name] = self.types[name] = struct
        self.declared[name] = dict((field[0], field[2]) for field in fields)

    def _field(self, declaration):
        """(name, ctypes type, C type) of "const size_t *start"; every pointer is a void pointer but strings."""
        function = re.fullmatch(r"[\w\s]+\**\(\*(\w+)\)\(.*\)\s*", declaration, flags=re.S)
        if function:
            return function.group(1), ctypes.c_void_p, "function"
        part = re.fullmatch(r"\s*(?:const )?([\w ]+?)\s*(\**)(?:(?<=[\s*])const )?(\b\w+)((?:\[\w+\])*)\s*", declaration)
        if not part:
            raise ValueError("cannot read this declaration of ssm.h: " + declaration)
        base, stars, name, extents = part.groups()
        if base not in self.types:
            raise ValueError("ssm.h uses the type %s, which is not known here" % base)
        if stars:
            return name, ctypes.c_char_p if base + stars == "char*" else ctypes.c_void_p, base + " " + stars
        kind = self.types[base]
        for extent in reversed(re.findall(r"\[(\w+)\]", extents)):
            kind = kind * int(self.constants.get(extent, extent))
        return name, kind, base


# ---------------------------------------------------------------------------------- the library

def default_path(double=False):
    """The library: beside this file, or where `make shared` (`make shared-double`) puts it."""
    for folder in (_HERE, os.path.join(_ROOT, "build")):
        for name in ("libssm%s.so", "libssm%s.dylib", "ssm%s.dll"):
            path = os.path.join(folder, name % ("_double" if double else ""))
            if os.path.exists(path):
                return path
    raise OSError("no library beside %s nor under build/: run `make shared%s` first" % (
        os.path.basename(__file__), "-double" if double else ""))


def default_header():
    """ssm.h: beside this file, or at the root of the project."""
    beside = os.path.join(_HERE, "ssm.h")
    return beside if os.path.exists(beside) else os.path.join(_ROOT, "ssm.h")


_default = None


def default_library():
    """The library that layers use if they are given none; loaded once."""
    global _default
    _default = _default or Library()
    return _default


class Library:
    """The loaded library. Its attributes are everything that ssm.h declares, and `dtype`, the real type."""

    def __init__(self, path=None, header=None, double=False):
        dll = ctypes.CDLL(os.path.abspath(path or default_path(double)))
        header = header or default_header()
        # The identity of the carries begins with the real number 1, whose bytes tell float from double.
        one = ctypes.create_string_buffer(16)
        dll.ssm_carry_identity(one, 0)
        real = ctypes.c_float if ctypes.c_float.from_buffer(one).value == 1 else ctypes.c_double
        self.dtype = np.dtype(real)
        self.header = Header(header, real)
        wanted = [self.header.constants["SSM_VERSION_" + part] for part in ("MAJOR", "MINOR", "PATCH")]
        if dll.ssm_version() != wanted[0] * 10000 + wanted[1] * 100 + wanted[2]:
            raise ValueError("%s has version number %d, which is not that of %s" % (dll._name, dll.ssm_version(), header))
        self.__dict__.update(self.header.constants)
        self.__dict__.update(self.header.structs)
        for name, (result, arguments, declared) in self.header.functions.items():
            function = getattr(dll, name, None)
            if function is None:  # left out when the library was compiled
                continue
            function.restype = result
            function.argtypes = arguments
            if declared == "ssm_status":
                function.errcheck = self._check
            setattr(self, name, function)

    def _check(self, status, function, arguments):
        if status < 0:
            raise Error(self.header.statuses[status], self.ssm_status_string(status).decode())
        return status

    def view(self, array, axes):
        """ssm_in of an array: its axes in order, from b (batch), t (time), c (channel or group) and n (state, tap). An
        axis that is missing has stride 0. Complex arrays are pairs, strides count reals."""
        return self._view(self.ssm_in, array, axes)

    def out(self, array, axes):
        """ssm_out, the same for arrays that are written to."""
        if not array.flags.writeable:
            raise TypeError("an array that is only read cannot be an output")
        return self._view(self.ssm_out, array, axes)

    def rows(self, array):
        """ssm_rows of a matrix, or of one row."""
        return self._rows(self.ssm_rows, array)

    def rows_out(self, array):
        if not array.flags.writeable:
            raise TypeError("an array that is only read cannot be an output")
        return self._rows(self.ssm_rows_out, array)

    def memory(self, block):
        """ssm_memory of a contiguous array, or of so many new bytes."""
        block = block if isinstance(block, np.ndarray) else np.empty(block, np.uint8)
        return self.ssm_memory(data=block, bytes=block.nbytes)

    def _strides(self, array):
        pair = np.dtype("c8" if self.dtype == np.float32 else "c16")
        if not isinstance(array, np.ndarray) or array.dtype not in (self.dtype, pair):
            raise TypeError("a view is of an array of %s or %s" % (self.dtype, pair))
        return [stride // self.dtype.itemsize for stride in array.strides]

    def _view(self, kind, array, axes):
        names = {"b": "batch", "t": "time", "c": "chan", "n": "state"}
        strides = self._strides(array)
        if len(axes) != len(strides) or len(set(axes)) != len(axes) or not set(axes) <= set(names):
            raise ValueError("axes %r do not name those of an array of shape %s" % (axes, array.shape))
        view = kind(**{names[axis]: stride for axis, stride in zip(axes, strides)})
        view.data = array.ctypes.data
        view.keep = array
        return view

    def _rows(self, kind, array):
        strides = self._strides(array)
        if array.ndim not in (1, 2) or (array.shape[-1] > 1 and strides[-1] != 1) or array.dtype != self.dtype:
            raise TypeError("rows are an array of %s of one or two dimensions, elements side by side" % self.dtype)
        rows = kind(row=strides[0] if array.ndim == 2 else 0)
        rows.data = array.ctypes.data
        rows.keep = array
        return rows

    def value(self, enum, name):
        """The value of an enum by the end of its name: value("ssm_disc", "zoh") is SSM_DISC_ZOH."""
        members = self.header.enums[enum]
        prefix = os.path.commonprefix(members)
        member = prefix[:prefix.rindex("_") + 1] + name.upper()
        if member not in members:
            raise ValueError("%s has no %s, but %s" % (enum, member, ", ".join(members)))
        return self.header.constants[member]


# ---------------------------------------------------------------------------------- the layers

class Layer:
    """One layer: its configuration, its weights and the verbs of ssm.h.

    The keywords are the fields of ssm_X_config, enums also by the end of their names (disc="zoh");
    `preset` is one of ssm_preset; fields given beside it win. `seed` fills the weights as the paper does.

    params   dict: name in the published checkpoint -> view into `flat`. Complex numbers are (re, im)
             in the last extent. After writing to it, call bind()
    config   the configuration with its defaults filled in
    """

    kind = ""

    def __init__(self, library=None, seed=0, preset=None, **config):
        library = library or default_library()
        self.library = library
        self._config = self._type("_config")()
        self._set(config)
        if preset is not None:
            getattr(library, "ssm_%s_preset" % self.kind)(
                ctypes.byref(self._config), self._number("ssm_preset", preset))
            self._set(config)
        self.config = self._type("_config")()
        self._call("config_resolve", ctypes.byref(self._config), ctypes.byref(self.config))
        self._rows = (library.ssm_param * library.SSM_PARAMS_MAX)()
        self.table = library.ssm_params(row=ctypes.addressof(self._rows), capacity=len(self._rows))
        self._call("params", ctypes.byref(self._config), None, ctypes.byref(self.table))
        self.flat = np.zeros(self.table.count, library.dtype)
        self.params = self.named(self.flat)
        self._reals = self._need(self._seqs(1, 1)).state // library.dtype.itemsize
        self._bound = np.zeros(self._need(self._seqs(1, 1)).bound, np.uint8)
        self._layer = self._type("")()
        self._tape = None
        self.init(seed)

    # -- weights

    def init(self, seed):
        """Fills the weights as the paper does."""
        self._call("init", ctypes.byref(self._config), self.flat.ctypes.data, seed)
        self.bind()

    def load(self, arrays):
        """Copies a checkpoint: anything that gives an array for each of the layer's names."""
        for name, view in self.params.items():
            value = np.asarray(arrays[name])
            if value.size != view.size:
                raise ValueError("%s has shape %s, not %s" % (name, value.shape, view.shape))
            view[...] = value.reshape(view.shape)
        self.bind()

    def bind(self):
        """Lays the weights out for the kernels; call it after every change of `params`."""
        self._call("bind", ctypes.byref(self._layer), ctypes.byref(self._config), self.flat.ctypes.data,
                   self._memory(self._bound))

    def named(self, flat):
        """Views into an array that is laid out as the weights: gradients, moments."""
        views = {}
        for row in self._rows[:self.table.rows]:
            views[row.name.decode()] = flat[row.offset:row.offset + row.count].reshape(row.shape[:row.rank])
        return views

    # -- running

    def state(self, streams=1):
        """States at the start of a sequence, [streams, reals of one state]. Copy to fork, zero to reset."""
        return np.zeros((streams, self._reals), self.library.dtype)

    def forward(self, x, state=None, start=None, step_scale=None, slot=None):
        """y for x [batch, len, d_model] or [len, d_model]; `state` goes on from where it is, in place.

        With `start`, x is packed: sequence b is x[start[b]:start[b + 1]].
        step_scale: a factor of the step size for each row of x (S5).
        slot: which row of `state` each sequence uses; negative: it is padding."""
        x, seqs, streams = self._sequences(x, start, step_scale)
        need = self._need(seqs)
        if slot is not None:
            slot = np.ascontiguousarray(slot, np.intp)
            if slot.shape != (streams,):
                raise ValueError("slot must hold a number for each sequence")
            if state is not None:
                streams = np.size(state) // self._reals if self._reals else 0
                if slot.max(initial=-1) >= streams:
                    raise ValueError("a slot is beyond the last state")
            seqs.slot = slot.ctypes.data
        y = np.zeros_like(x)
        self._call("forward", ctypes.byref(self._layer), self._address(state, streams), x.ctypes.data, y.ctypes.data,
                   ctypes.byref(seqs), self._work(need.work + need.state))
        return y

    def step(self, state, x):
        """y for one time step of each stream: x [streams, d_model], or [d_model] for one stream."""
        x = self._rows_of(x, (1, 2))
        streams = x.size // self.config.d_model
        y = np.zeros_like(x)
        if state is None:
            raise ValueError("a step needs a state: state(streams)")
        self._call("step", ctypes.byref(self._layer), self._address(state, streams), x.ctypes.data, y.ctypes.data,
                   streams, self._work(self._need(self._seqs(streams, 1)).work))
        return y

    def record(self, x, state=None, start=None, step_scale=None):
        """forward, and keeps what backward needs."""
        x, seqs, streams = self._sequences(np.array(x), start, step_scale)
        need = self._need(seqs)
        y = np.zeros_like(x)
        tape = np.zeros(need.tape, np.uint8)
        self._call("record", ctypes.byref(self._layer), self._address(state, streams), x.ctypes.data, y.ctypes.data,
                   ctypes.byref(seqs), self._memory(tape), self._work(need.work + need.state))
        self._tape = x, seqs, streams, tape, state is not None
        return y

    def backward(self, dy, dstate=None):
        """Gradients of the last record, by name: every parameter, and "x".

        With a state in record, or with dstate (the gradient of the state after the sequence), there is
        also "state", the gradient of the state before it."""
        if self._tape is None:
            raise ValueError("backward needs a record before it")
        x, seqs, streams, tape, stateful = self._tape
        need = self._need(seqs)
        dy = np.ascontiguousarray(dy, self.library.dtype)
        if dy.shape != x.shape:
            raise ValueError("dy has shape %s, not that of x, %s" % (dy.shape, x.shape))
        if dstate is not None:
            dstate = np.array(dstate, self.library.dtype, order="C")
        elif stateful:
            dstate = self.state(streams)
        dx = np.zeros_like(x)
        dparams = np.zeros_like(self.flat)
        self._call("backward", ctypes.byref(self._layer), self._address(dstate, streams), x.ctypes.data,
                   dy.ctypes.data, dx.ctypes.data, dparams.ctypes.data, ctypes.byref(seqs), self._memory(tape),
                   self._work(need.work_backward + need.state))
        gradients = self.named(dparams)
        gradients["x"] = dx
        if dstate is not None:
            gradients["state"] = dstate
        return gradients

    # -- private

    def _type(self, suffix):
        return getattr(self.library, "ssm_" + self.kind + suffix)

    def _call(self, verb, *arguments):
        getattr(self.library, "ssm_%s_%s" % (self.kind, verb))(*arguments)

    def _number(self, kind, value):
        return self.library.value(kind, value) if isinstance(value, str) else value

    def _set(self, config):
        declared = self.library.header.declared["ssm_%s_config" % self.kind]
        for name, value in config.items():
            if name not in declared:
                raise TypeError("ssm_%s_config has no field %s" % (self.kind, name))
            setattr(self._config, name, self._number(declared[name], value))

    def _seqs(self, batch, length):
        return self.library.ssm_seqs(batch=batch, len=length)

    def _need(self, seqs):
        need = self.library.ssm_sizes()
        self._call("sizes", ctypes.byref(self._config), ctypes.byref(seqs), ctypes.byref(need))
        return need

    def _rows_of(self, x, ranks):
        x = np.ascontiguousarray(x, self.library.dtype)
        if x.ndim not in ranks or x.shape[-1] != self.config.d_model:
            raise ValueError("an array of shape %s does not end in d_model, %d" % (x.shape, self.config.d_model))
        return x

    def _sequences(self, x, start, step_scale):
        x = self._rows_of(x, (2, 3) if start is None else (2,))
        seqs = self._seqs(x.shape[0] if x.ndim == 3 else 1, x.shape[-2])
        seqs.keep = []  # arrays that the struct points to live as long as it does
        if start is not None:
            start = np.ascontiguousarray(start, np.uintp)
            if start.ndim != 1 or start.size < 1:
                raise ValueError("start must hold batch + 1 offsets")
            seqs.batch, seqs.start = start.size - 1, start.ctypes.data
            seqs.keep.append(start)
        if step_scale is not None:
            step_scale = np.ascontiguousarray(step_scale, self.library.dtype)
            if step_scale.shape != x.shape[:-1]:
                raise ValueError("step_scale must have the shape of x without its channels")
            seqs.step_scale = step_scale.ctypes.data
            seqs.keep.append(step_scale)
        return x, seqs, seqs.batch

    def _address(self, state, streams):
        """The library writes to states: only memory that is right as it is will do, never a copy."""
        if state is None:
            return None
        if not isinstance(state, np.ndarray) or state.dtype != self.library.dtype or \
                not state.flags.c_contiguous or not state.flags.writeable or state.size != streams * self._reals:
            raise ValueError("a state must be a contiguous %s array of %d x %d numbers: state(%d)" %
                             (self.library.dtype, streams, self._reals, streams))
        return state.ctypes.data

    def _memory(self, array):
        return self.library.memory(array)

    def _work(self, size):
        array = np.empty(size, np.uint8)
        return self._memory(array)


class Selective(Layer):
    kind = "selective"


class S6(Layer):
    kind = "s6"


class Mamba(Layer):
    kind = "mamba"


class Mamba2(Layer):
    kind = "mamba2"


class Mamba3(Layer):
    kind = "mamba3"


class RGLRU(Layer):
    kind = "rglru"


class S4D(Layer):
    kind = "s4d"


class S4(Layer):
    kind = "s4"


class S5(Layer):
    kind = "s5"
