#!/usr/bin/env python3
"""mutate.py - breaks ssm.h in one place after another and counts how often the tests notice.

    mutate.py [--count N] [--seed N] [--all] [--section TAG]... [--function NAME]... [--again] [--list]
              [--jobs N] [--batch N] [--longest SECONDS] [--compiler CC]

A mutant is the implementation with one operator, constant, condition, statement, vector function or pair of arguments
changed. N of them are drawn (200); --all takes every one, --section kernels-scan and --function ssm__take only what
lies there, --again what survived the last time; --list prints them and ends. Not drawn: the sections of a GPU, what
this machine's build leaves out, declarations, macros, and estimates of what a loop costs.

Many mutants are one program: each is a copy of its function beside the function, which calls it if SSM_MUTANT is its
number. What does not compile is left out. A mutant is killed by a test of the runner that fails, crashes or takes ten
times its time, on the best instruction set of this build or, as in `make test-isas`, on the scalar one. Tests that do
not reach the place are not run, nor, with --longest, such as take longer. Of those that survive, what compiles to the
same instructions is left out, too; the others go through the quick tests once more with sanitizers, as in `make check`,
and with garbage in variables that hold nothing yet. The rest is shown to tests/bits.c: what its hashes notice, no test
of the runner does, and it counts as survived. The last line is "N mutants, K killed, S survived (P %)"; exit status 1
below 95 %.
"""
import argparse
import bisect
import concurrent.futures
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys

FLAGS = ["-O1", "-std=c99", "-ffp-contract=off", "-DSSM_NO_AVX512"]
ERRORS = [f"-Werror={name}" for name in
          ("int-conversion", "incompatible-pointer-types", "implicit-function-declaration", "discarded-qualifiers")]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-ftrivial-auto-var-init=pattern"]
FOLDER = "build/mutate"
ENOUGH = 95

OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
             "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=",
             "<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "|"}
SWAPPED = {"v_add": "v_sub", "v_sub": "v_add", "v_mul": "v_add", "v_div": "v_mul", "v_fma": "v_fnma", "v_fms": "v_fma",
           "v_fnma": "v_fma", "v_min": "v_max", "v_max": "v_min", "v_neg": "v_abs", "v_abs": "v_neg",
           "v_c_add": "v_c_sub", "v_c_sub": "v_c_add", "v_c_fma": "v_c_fma_conj", "v_c_fma_conj": "v_c_fma",
           "v_c_mul": "v_c_mul_conj", "v_c_mul_conj": "v_c_mul"}
# Their first two arguments may change places.
SYMMETRIC = {"v_add", "v_mul", "v_fma", "v_fms", "v_fnma", "v_c_add", "v_c_mul", "v_c_fma", "v_c_dot", "ssm__min",
             "ssm__add", "ssm__mul", "ssm__offset"}
SYMMETRIC_INTRINSIC = re.compile(r"_mm\d*_(add|mul|or|and|xor)_")
# Calls that compute nothing.
SILENT = {"SSM_ASSERT", "v_prefetch", "sizeof"}
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "case", "else", "do", "break", "continue", "default"}
TYPES = {"void", "char", "int", "unsigned", "long", "short", "float", "double", "size_t", "ptrdiff_t", "uintptr_t",
         "const", "struct", "enum", "union", "static", "SSM__RESTRICT", "SSM__UNUSED", "v_real", "v_mask", "int8_t",
         "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t"}

# They decide only what is read ahead into the cache.
QUICKENERS = {"v_ask"}

# (function, line, the same line mutated): what computes the same, and why.
EQUIVALENT = {
    # What no instruction set here takes, or what is computed twice.
    ("scan_fold",
     "for (k = 0; V_WIDTH >= SSM__STRIP && k < SSM__STRIP / 2; ++k) part[k] = x[k] + x[k + SSM__STRIP / 2];",
     "for (k = 0; V_WIDTH >= SSM__STRIP || k < SSM__STRIP / 2; ++k) part[k] = x[k] + x[k + SSM__STRIP / 2];"),
    # A turn of a loop that does nothing.
    ("total", "for (i = 0; i < dim; i += SSM__STRIP)", "for (i = 0; i <= dim; i += SSM__STRIP)"),
    # There are six rows at most.
    ("product_six", "const ssm_real *x5 = t->a + ssm__offset(ssm__min(5, last), t->a_row);",
     "const ssm_real *x5 = t->a + ssm__offset(ssm__min(6, last), t->a_row);"),
    # What is loaded is not used.
    ("v_conv_back", "v_real s0 = dw && W > 3 ? v_load(dw - 3 * w_row) : zero;",
     "v_real s0 = dw && W >= 3 ? v_load(dw - 3 * w_row) : zero;"),
    ("scan_close_adjoint", "const v_real D = d->D ? v_load(d->D + c) : v_set(0);",
     "const v_real D = d->D ? v_load(d->D + c) : v_set(1);"),
    # Memory of whole strips; without vectors, this is noticed.
    ("conv_rows",
     "for (c = 0; c < b->channels; c += SSM__STRIP) v_conv_many(b, c, ssm__min(SSM__STRIP, b->channels - c));",
     "for (c = 0; c < b->channels; c += SSM__STRIP) v_conv_many(b, c, ssm__min(SSM__STRIP, b->channels + c));"),
    # The next row of the table is written after it.
    ("ssm__init_hippo_im", "for (i = n; i < row->count; i += keep) out[i] = omega;",
     "for (i = n; i <= row->count; i += keep) out[i] = omega;"),
    # The longer way, to the same bits, or where it begins.
    ("ssm__line_is_narrow", "return j->s->dim < SSM__LINE_NARROW;", "return j->s->dim <= SSM__LINE_NARROW;"),
    ("ssm__line_adjoint_unit",
     "const int slow = j->isa != SSM_ISA_SCALAR && j->im == 1 && j->s->dim < SSM__STRIP; /* parts of pairs */",
     "const int slow = j->isa != SSM_ISA_SCALAR && j->im == 1 && j->s->dim <= SSM__STRIP; /* parts of pairs */"),
    ("ssm__ssd_backward",
     "const size_t steps = s->start ? s->len : s->batch * s->len, parts = ssm__ssd_parts(s);",
     "const size_t steps = !(s->start) ? s->len : s->batch * s->len, parts = ssm__ssd_parts(s);"),
    ("scan_delta", "int is_near = 1;", "int is_near = 2;"),
    # The adjoint reads neither.
    ("ssm__mimo_back_turn",
     "ssm__turn_block K = ssm__mimo_turn(e, s->B, s->B_bias, w->K + N), Q = ssm__mimo_turn(e, s->C, s->C_bias, w->Q);",
     "ssm__turn_block K = ssm__mimo_turn(e, s->B_bias, s->B, w->K + N), Q = ssm__mimo_turn(e, s->C, s->C_bias, w->Q);"),
    # The place is a product of the two.
    ("v_row_z", "return v_row_load(b->z, b->z_row, r, c, b->dim);", "return v_row_load(b->z, r, b->z_row, c, b->dim);"),
    # theta is a cosine up to a right angle, and all poles decay.
    ("v_cauchy_open", "const v_real re = v_neg(v_mul(theta, lambda.re));",
     "const v_real re = v_abs(v_mul(theta, lambda.re));"),
    # Past saturation.
    ("v_gelu_tanh_derivative", "x = v_max(v_set(-32), v_min(v_set(32), x));",
     "x = v_max(v_set(-32), v_min(v_set(33), x));"),
    ("v_gelu_tanh_factors", "return v_max(v_set(-32), x);", "return v_max(v_set(-33), x);"),
    # Fewer at a time, and then the rest.
    ("scan_rows_even", "for (n = 0; n + 8 <= b->states; n += 8, h += 8 * H) {",
     "for (n = 0; n + 9 <= b->states; n += 8, h += 8 * H) {"),
    ("lti_real", "for (n = 0; n + 4 <= k->states; n += 4) {", "for (n = 0; n + 5 <= k->states; n += 4) {"),
    ("linear_product", "const size_t pair = 2 * V_WIDTH > SSM__PANEL ? 2 * V_WIDTH : SSM__PANEL;",
     "const size_t pair = 3 * V_WIDTH > SSM__PANEL ? 2 * V_WIDTH : SSM__PANEL;"),
}

TOKEN = re.compile(r"[A-Za-z_]\w*|0[xX][0-9a-fA-F]+[uUlL]*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fFuUlL]*|"
                   r"->|\+\+|--|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\s\w]")
DIRECTIVE = re.compile(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*")


# ---- reading ssm.h -----------------------------------------------------------------------

def blanked(text):
    """Of the same length, without comments, strings and preprocessor lines."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', lambda m: m.group()[0] + "_" * (len(m.group()) - 2)
                  + m.group()[0], text)
    return DIRECTIVE.sub(blank, text)


def compiled_lines(compiler, text):
    """Numbers of the lines that the preprocessor leaves, in whole segments between two directives."""
    out = subprocess.run([compiler, *FLAGS, "-DSSM_IMPLEMENTATION", "-E", "-x", "c", "ssm.h"], check=True,
                         capture_output=True, text=True).stdout
    left, line, here = set(), 0, False
    for row in out.split("\n"):
        marker = re.match(r'# (\d+) "([^"]*)"', row)
        if marker:
            line, here = int(marker.group(1)), marker.group(2).endswith("ssm.h")
            continue
        if here and row.strip():
            left.add(line)
        line += 1
    lines, segment, known = set(), [], blanked(text).split("\n")
    for n, row in enumerate(text.split("\n") + ["#"], 1):
        if re.match(r"[ \t]*#", row):
            if any(m in left for m in segment):
                lines.update(segment)
            segment = []
        elif known[n - 1].strip():
            segment.append(n)
    return lines


class Source:
    """ssm.h: its text, what of it is code here, and the functions of the implementation."""

    def __init__(self, compiler):
        with open("ssm.h", encoding="ascii") as f:
            self.text = f.read()
        self.starts = [0] + [m.end() for m in re.finditer("\n", self.text)]
        self.hook = self.text.index("\n", self.text.index("#if defined(SSM_IMPLEMENTATION) && !defined(SSM_IMPL")) + 1
        lines, code = compiled_lines(compiler, self.text), []
        for n, row in enumerate(blanked(self.text).split("\n"), 1):
            code.append(row if n in lines else " " * len(row))
        self.code = "\n".join(code)
        self.tags = [(m.start(), m.group(1)) for m in re.finditer(r"/\*=+\n \* >>([\w-]+)", self.text)]
        self.types = set(TYPES)
        self.types |= set(re.findall(r"\btypedef\s+(?:struct|enum|union)\s+(\w+)", self.code))
        self.types |= set(re.findall(r"\btypedef\s[^;{}]*?(\w+)\s*(?:\[[^;]*)?;", self.code))
        self.passes = (self.text.index(" * >>vectors\n"), self.text.index(" * >>instances\n"))
        self.functions = list(self.find_functions())

    def line(self, at):
        """Number of the line at an offset."""
        return bisect.bisect_right(self.starts, at)

    def section(self, at):
        """Tag of the section at an offset."""
        return self.tags[bisect.bisect_right(self.tags, (at, "~")) - 1][1]

    def find_functions(self):
        """Each Function of the implementation, but for the sections of a GPU."""
        depth, begin = 0, self.hook
        for m in re.finditer(r"[{};]", self.code[self.hook:]):
            at = self.hook + m.start()
            if m.group() == "{":
                if depth == 0:
                    opening = at
                depth += 1
                continue
            if m.group() == "}":
                depth -= 1
            if depth == 0:
                if m.group() == "}" and not self.section(opening).startswith("cuda"):
                    found = Function.parse(self, begin, opening, at + 1)
                    if found:
                        yield found
                begin = at + 1


class Function:
    """A function: where its head, its body and its end are, its name and parameters."""

    @staticmethod
    def parse(source, begin, opening, end):
        """None for what is a struct or a table."""
        head = source.code[begin:opening]
        begin += len(head) - len(head.lstrip())
        head = source.code[begin:opening].rstrip()
        if not head.endswith(")"):
            return None
        depth, at = 0, len(head)
        while at and (depth or at == len(head)):
            at -= 1
            depth += (head[at] == ")") - (head[at] == "(")
        name = re.search(r"(?:SSM__KERNEL\((\w+)\)|(\w+))\s*$", head[:at])
        if not name or "=" in head[:at]:
            return None
        f = Function()
        f.source, f.begin, f.opening, f.end = source, begin, opening, end
        f.name = name.group(1) or name.group(2)
        f.name_at = begin + name.start(), begin + name.start() + len(name.group().rstrip())
        f.stamped = bool(name.group(1)) or source.passes[0] < begin < source.passes[1]
        f.is_void = bool(re.search(r"\bvoid\s*$", head[:name.start()]))
        f.parameters = []
        named = re.sub(r"\(\s*\*\s*(\w+)\s*\)\s*\([^()]*\)", r" \1", head[at + 1:-1]) # pointers to functions
        for part in re.sub(r"\[[^\]]*\]", "", named).split(","):
            words = re.findall(r"\w+", part)
            if words and words != ["void"]:
                f.parameters.append(words[-1])
        return f

    def copy_name(self, number):
        """The name of a mutant's copy, as the text says it."""
        name = f"{self.name}__m{number}"
        return f"SSM__KERNEL({name})" if self.stamped else name

    def copy(self, number, start, stop, new):
        """The function under that name with text[start:stop] new."""
        text = self.source.text
        return (text[self.begin:self.name_at[0]] + self.copy_name(number) + text[self.name_at[1]:start] + new
                + text[stop:self.end])

    def call(self, number):
        """The case that calls it instead."""
        call = f"{self.copy_name(number)}({', '.join(self.parameters)})"
        return f" case {number}: {call + '; return;' if self.is_void else 'return ' + call + ';'}"


# ---- mutants -----------------------------------------------------------------------------

class Body:
    """The tokens of a function's body, and what can be changed there: (start, stop, new text, kind)."""

    def __init__(self, function):
        self.f, self.types = function, function.source.types
        self.code = function.source.code
        self.tokens = [(m.group(), function.opening + m.start())
                       for m in TOKEN.finditer(self.code[function.opening:function.end])]
        self.partner, self.casts, self.fixed = {}, set(), set()
        self.pair()

    def pair(self):
        """Parentheses, casts, and tokens that stay."""
        stack = []
        for i, (t, _) in enumerate(self.tokens):
            if t in ("(", "[", "{"):
                stack.append(i)
            elif t in (")", "]", "}"):
                opening = stack.pop()
                self.partner[opening], self.partner[i] = i, opening
                inner = [x for x, _ in self.tokens[opening + 1:i]]
                if t == ")" and inner and all(x in self.types or x == "*" for x in inner):
                    self.casts.add(i)
                    self.fixed.update(range(opening, i + 1))
                if t == ")" and self.tokens[opening - 1][0] in SILENT:
                    self.fixed.update(range(opening - 1, i + 1))

    def token(self, i):
        """Text of a token; nothing outside."""
        return self.tokens[i][0] if 0 <= i < len(self.tokens) else ""

    def span(self, first, last):
        """Offsets of tokens first .. last."""
        return self.tokens[first][1], self.tokens[last][1] + len(self.tokens[last][0])

    def text(self, first, last):
        """Their text."""
        start, stop = self.span(first, last)
        return self.f.source.text[start:stop]

    def is_operand(self, i):
        """Whether a token ends an operand, so that what follows has two."""
        t = self.token(i)
        if t in (")", "]"):
            return i not in self.casts
        return bool(re.match(r"\w", t)) and t not in KEYWORDS and t not in self.types

    def to_semicolon(self, i):
        """The ; that ends a statement."""
        while self.token(i) != ";":
            i = self.partner[i] if self.token(i) in ("(", "[", "{") else i
            i += 1
        return i

    def is_declaration(self, i):
        """Whether a statement that begins here is one."""
        a, b = self.token(i), self.token(i + 1)
        return a in self.types or bool(re.match(r"\w", a) and re.match(r"\w", b))

    def statements(self):
        """Conditions negated; statements and checks removed."""
        i = 1
        while i < len(self.tokens):
            t = self.token(i)
            if t in ("{", "}", ";", "else", "do"):
                i += 1
            elif t in ("case", "default"):
                while self.token(i) != ":":
                    i += 1
                i += 1
            elif t in ("if", "while", "for", "switch"):
                close = self.partner[i + 1]
                if t in ("if", "while"):
                    yield self.negate(i + 2, close - 1)
                if t == "if" and self.token(close + 1) == "return":
                    end = self.to_semicolon(close)
                    if self.token(end + 1) != "else":
                        yield (*self.span(i, end), ";", "check removed")
                i = close + 1
            else:
                end = self.to_semicolon(i)
                if t in ("break", "continue"):
                    yield (*self.span(i, end), ";", "statement removed")
                elif self.is_declaration(i):
                    self.fix_extents(i, end)
                elif t not in ("return", "(") and t not in SILENT:
                    yield (*self.span(i, end), ";", "statement removed")
                i = end + 1

    def fix_extents(self, i, end):
        """Extents of arrays are declared, not computed."""
        value, depth = False, 0 # whether a variable's value has begun, and the parentheses open in it
        for k in range(i, end):
            t = self.token(k)
            if value:
                depth += (t in ("(", "{")) - (t in (")", "}"))
                value = depth > 0 or t != ","
            elif t == "[":
                self.fixed.update(range(k, self.partner[k] + 1))
            else:
                value = t == "="

    def fix_costs(self):
        """An estimate of what a loop costs decides only whether it is shared out; one of 0 keeps it together."""
        for i, (t, _) in enumerate(self.tokens):
            commas = 0
            if t == "ssm__parallel":
                first, ends = i + 2, self.partner[i + 1]
            elif t == "cost" and self.token(i + 1) == "=":
                first, commas, ends = i + 2, 2, self.to_semicolon(i)
            else:
                continue
            while first < ends and commas < 3:
                if commas == 2 and self.token(first) != "?":
                    self.fixed.add(first)
                if self.token(first) in ("(", "["):
                    if commas == 2:
                        self.fixed.update(range(first, self.partner[first]))
                    first = self.partner[first]
                first += 1
                commas += self.token(first) == ","

    def negate(self, first, last):
        """A condition."""
        return (*self.span(first, last), f"!({self.text(first, last)})", "condition negated")

    def condition_of(self, i):
        """First token of the condition before a ?."""
        i -= 1
        while i > 0:
            t = self.token(i)
            if t in (")", "]"):
                i = self.partner[i]
            elif t in ("(", "[", "{", ",", ";", "?", ":", "=", "+=", "-=", "*=", "return"):
                return i + 1
            i -= 1
        return 1

    def argument_pairs(self, i):
        """Neighbours of a call's arguments change places; i is its opening parenthesis."""
        cuts, at, close = [i], i + 1, self.partner[i]
        while at < close:
            if self.token(at) in ("(", "[", "{"):
                at = self.partner[at]
            elif self.token(at) == ",":
                cuts.append(at)
            at += 1
        cuts.append(close)
        for k in range(len(cuts) - 2):
            if k == 0 and (self.token(i - 1) in SYMMETRIC or SYMMETRIC_INTRINSIC.match(self.token(i - 1))):
                continue
            a, b = (cuts[k] + 1, cuts[k + 1] - 1), (cuts[k + 1] + 1, cuts[k + 2] - 1)
            if self.text(*a) != self.text(*b):
                yield (self.span(*a)[0], self.span(*b)[1], f"{self.text(*b)}, {self.text(*a)}", "arguments swapped")

    def expressions(self):
        """What single tokens can become."""
        for i, (t, at) in enumerate(self.tokens):
            if i in self.fixed:
                continue
            stop = at + len(t)
            if t in OPERATORS and self.is_operand(i - 1):
                yield (at, stop, OPERATORS[t], "operator")
            elif t in SWAPPED and self.token(i + 1) == "(":
                yield (at, stop, SWAPPED[t], "vector function")
            elif t == "?":
                yield self.negate(self.condition_of(i), i - 1)
            elif re.match(r"[\d.]\w*", t) and t != ".":
                whole = re.fullmatch(r"(\d+)([uUlL]*)", t)
                yield (at, stop, f"{int(whole.group(1)) + 1}{whole.group(2)}" if whole else f"({t} + 1)", "constant")
            if t == "(" and re.match(r"\w", self.token(i - 1)) and self.token(i - 1) not in KEYWORDS:
                yield from self.argument_pairs(i)

    def mutants(self):
        """All, statements first, since they say which tokens stay."""
        found = list(self.statements())
        self.fix_costs()
        return found + list(self.expressions())


class Mutant:
    """One change: number, function, text[start:stop], new text, kind; and what became of it."""

    def __init__(self, function, start, stop, new, kind):
        self.number, self.function = 0, function
        self.start, self.stop, self.new, self.kind = start, stop, new, kind
        self.fate = ""
        self.killer = ""

    def lines(self):
        """The lines that change, on one line each: before and after."""
        s = self.function.source
        first, last = s.text.rindex("\n", 0, self.start) + 1, s.text.index("\n", self.stop)
        one = lambda x: " ".join(x.split())
        return one(s.text[first:last]), one(s.text[first:self.start] + self.new + s.text[self.stop:last])

    def where(self):
        """Line, section and function."""
        s = self.function.source
        return f"ssm.h:{s.line(self.start)}: {s.section(self.start)}, {self.function.name}, {self.kind}"


def all_mutants(source, options):
    """In the order of the text."""
    found = []
    for f in source.functions:
        if options.section and source.section(f.begin) not in options.section:
            continue
        if options.function and f.name not in options.function or f.name in QUICKENERS:
            continue
        mutants = [Mutant(f, *change) for change in Body(f).mutants()]
        found += [m for m in mutants if (f.name, *m.lines()) not in EQUIVALENT]
    return found


# ---- programs ----------------------------------------------------------------------------

def folder_of(name, text):
    """A folder with that ssm.h, and the tests as links."""
    folder = os.path.join(FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "tests"))
    for entry in os.listdir("tests"):
        os.symlink(os.path.abspath(os.path.join("tests", entry)), os.path.join(folder, "tests", entry))
    with open(os.path.join(folder, "ssm.h"), "w", encoding="ascii") as f:
        f.write(text)
    return folder


def compile_in(folder, compiler, *arguments):
    """(whether it worked, what the compiler said)."""
    own = [] if "clang" in compiler else ["-ftrack-macro-expansion=0"] # errors are where a macro is used
    done = subprocess.run([compiler, *FLAGS, *ERRORS, *own, *arguments], cwd=folder, capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def assembled(source, insertions):
    """The text with (offset, what) inserted, those of one offset in their order."""
    parts, last = [], 0
    for at, what in sorted(insertions, key=lambda x: x[0]):
        parts += [source.text[last:at], what]
        last = at
    return "".join(parts) + source.text[last:]


CHOOSER = """#include <stdlib.h>
static int ssm__mutant;
__attribute__((constructor)) static void ssm__choose(void)
{
    const char *number = getenv("SSM_MUTANT");
    if (number) ssm__mutant = atoi(number);
}
"""

COUNTER = """#include <stdio.h>
#include <stdlib.h>
static unsigned char ssm__hit[%d];
__attribute__((destructor)) static void ssm__hits(void)
{
    FILE *f = getenv("SSM_HITS") ? fopen(getenv("SSM_HITS"), "wb") : NULL;
    if (f) fwrite(ssm__hit, 1, sizeof ssm__hit, f);
    if (f) fclose(f);
}
"""


def with_mutants(source, mutants):
    """ssm.h with all of these, and the first and last line of each copy."""
    insertions, by_function = [(source.hook, CHOOSER)], {}
    for m in mutants:
        by_function.setdefault(m.function.begin, []).append(m)
    for group in by_function.values():
        f = group[0].function
        for m in group:
            insertions.append((f.begin, f.copy(m.number, m.start, m.stop, m.new) + "\n\n"))
        calls = "".join(f.call(m.number) for m in group)
        insertions.append((f.opening + 1, f" switch (ssm__mutant) {{{calls} default: break; }}"))
    text, lines = assembled(source, insertions), {}
    for m in mutants:
        at = text.index(m.function.copy_name(m.number))
        first = text.count("\n", 0, at) + 1
        lines[m.number] = (first - 3, first + source.text.count("\n", m.function.begin, m.function.end) + 1)
    return text, lines


def without_errors(source, mutants, name, compiler):
    """(folder, mutants): those that compile, in a folder."""
    while True:
        text, lines = with_mutants(source, mutants)
        folder = folder_of(name, text)
        worked, said = compile_in(folder, compiler, "-fsyntax-only", "-fmax-errors=0", "tests/ssm_test.c")
        if worked:
            return folder, mutants
        wrong = {int(n) for n in re.findall(r"ssm\.h:(\d+):\d+: error", said)}
        broken = {m.number for m in mutants if any(lines[m.number][0] < n <= lines[m.number][1] for n in wrong)}
        broken |= {int(n) for n in re.findall(r"__m(\d+)\b", "\n".join(re.findall(r".*error:.*", said)))}
        for m in mutants:
            if m.number in broken:
                m.fate = "invalid"
        if not any(m.number in broken for m in mutants):
            sys.exit(f"mutate.py: cannot compile the mutants\n{said}")
        mutants = [m for m in mutants if m.number not in broken]


def blocks_of(source):
    """(insertions that mark what runs, offsets from which a mark holds, its number)."""
    insertions, offsets, marks = [], [], []
    for f in source.functions:
        stack, body = [], Body(f)
        for i, (t, at) in enumerate(body.tokens):
            if t == "{":
                before = body.token(i - 1)
                runs = i == 0 or before in ("else", "do") or (
                    before == ")" and body.token(body.partner[i - 1] - 1) in ("if", "for", "while"))
                stack.append(None if runs else stack[-1])
            elif t == "}":
                stack.pop()
                offsets.append(at)
                marks.append(stack[-1] if stack else -1)
                continue
            elif t == ":" and stack and is_label(body, i):
                runs = True
            else:
                continue
            if runs:
                stack[-1] = len(insertions)
                insertions.append((at + 1, f" ssm__hit[{len(insertions)}] = 1;"))
            offsets.append(at)
            marks.append(stack[-1])
    return insertions, offsets, marks


def is_label(body, i):
    """Whether a : ends a case."""
    if body.token(i - 1) == "default":
        return True
    while i > 0 and body.token(i) not in ("?", ";", "{", "}", "case"):
        i -= 1
    return body.token(i) == "case"


# ---- which tests reach what --------------------------------------------------------------

def hash_of(*paths):
    """Of some files."""
    h = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as f:
            h.update(f.read())
    return h.hexdigest()


def run_test(program, name, seconds, *options, **environment):
    """(whether it passed, its seconds of processor time)."""
    memory = "" if "ASAN_OPTIONS" in environment else "ulimit -v 8000000; " # sanitizers map far more than they use
    shell = f'ulimit -t {int(seconds) + 1}; {memory}exec "$0" "$@"'
    child = subprocess.Popen(["sh", "-c", shell, program, *options, "=" + name], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env={**os.environ, **environment})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    return status == 0, usage.ru_utime + usage.ru_stime


class Reach:
    """Of each test its time, and the blocks that it runs. Kept in a file, as long as ssm.h and the test stay."""

    def __init__(self, source, options):
        compiler, jobs = options.compiler, options.jobs
        insertions, self.offsets, self.marks = blocks_of(source)
        text = assembled(source, [(source.hook, COUNTER % len(insertions))] + insertions)
        folder = folder_of("reach", text)
        worked, said = compile_in(folder, compiler, "tests/ssm_test.c", "-o", "ssm_test", "-lm")
        if not worked:
            sys.exit(f"mutate.py: cannot compile the counting program\n{said}")
        self.program, self.tests, self.kept = os.path.join(folder, "ssm_test"), {}, os.path.join(FOLDER, "reach.json")
        list_of = lambda *options: subprocess.run([self.program, *options, "--list"], check=True, capture_output=True,
                                                  text=True).stdout.split()
        names, self.scalar = list_of(), set(list_of("--isa", "scalar"))
        keys, old = self.keys(names), self.load()
        self.tests = {n: old[n] for n in names if n in old and old[n]["key"] == keys[n]}
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for n, found in zip(names, pool.map(lambda n: self.tests.get(n) or self.measure(n, keys[n]), names)):
                self.tests[n] = found
        with open(self.kept, "w", encoding="ascii") as f:
            json.dump(self.tests, f)
        self.kills, self.longest = {}, options.longest
        self.sets = {n: set(t["blocks"]) for n, t in self.tests.items()}

    @staticmethod
    def keys(names):
        """Of each test a hash of what it is made of."""
        files = sorted(os.path.join("tests", f) for f in os.listdir("tests") if re.fullmatch(r"test_\w+\.c", f))
        texts = {f: open(f, encoding="ascii").read() for f in files}
        hashes = {f: hash_of("ssm.h", "tests/test.h", f) for f in files}
        return {n: "".join(hashes[f] for f in files if f'"{n}"' in texts[f]) + FLAGS[0] for n in names}

    def load(self):
        """What was kept."""
        try:
            with open(self.kept, encoding="ascii") as f:
                return json.load(f)
        except (OSError, ValueError):
            return {}

    def measure(self, name, key):
        """One test."""
        path = os.path.join(FOLDER, "reach", "hits." + name.replace("/", "."))
        passed, seconds = run_test(self.program, name, 600, SSM_HITS=path)
        if not passed:
            sys.exit(f"mutate.py: {name} fails without a mutant")
        with open(path, "rb") as f:
            hits = f.read()
        os.remove(path)
        return {"key": key, "seconds": seconds, "blocks": [i for i, hit in enumerate(hits) if hit]}

    def of(self, offset):
        """Tests that run what is at an offset: first the quickest, and those that killed often."""
        block = self.marks[bisect.bisect_left(self.offsets, offset) - 1]
        cost = lambda n: (0.01 + self.tests[n]["seconds"]) / (1 + self.kills.get(n, 0))
        quick = (n for n, t in self.tests.items() if t["seconds"] <= self.longest)
        return sorted((n for n in quick if block in self.sets[n]), key=cost)


# ---- the work ----------------------------------------------------------------------------

def kill(mutant, program, reach):
    """Runs tests until one fails: all, then those that choose no instruction set once more on the scalar one."""
    tests = reach.of(mutant.start)
    for name, options in [(n, ()) for n in tests] + [(n, ("--isa", "scalar")) for n in tests if n in reach.scalar]:
        most = 2 + (40 if options else 10) * reach.tests[name]["seconds"]
        passed, _ = run_test(program, name, most, *options, SSM_MUTANT=str(mutant.number))
        if not passed:
            mutant.fate, mutant.killer = "killed", " ".join([*options, name])
            reach.kills[name] = reach.kills.get(name, 0) + 1
            return
    mutant.fate = "survived"


def assembly_of(said, text):
    """Of each function whose name is of a mutant: its instructions, with labels numbered from its start."""
    found = {}
    for m in re.finditer(r"(?ms)^(\w+__m\d+(?:plain)?(?:_\w+)?):$(.*?)^\s*\.size\s+\1,", text):
        labels = {}
        number = lambda label: labels.setdefault(label.group(), f".L#{len(labels)}")
        found[m.group(1)] = re.sub(r"\.L(?:BB)?\d+(?:_\d+)?\b", number, m.group(2))
    if not found:
        sys.exit(f"mutate.py: no assembly\n{said}")
    return found


def find_equivalent(source, mutants, compiler):
    """Marks those whose code is that of a copy without a change."""
    insertions = []
    for m in mutants:
        for number, new in ((f"{m.number}plain", source.text[m.start:m.stop]), (m.number, m.new)):
            copy = m.function.copy(number, m.start, m.stop, new)
            insertions.append((m.function.begin, f"__attribute__((used)) {copy}\n\n"))
    folder = folder_of("assembly", assembled(source, insertions))
    worked, said = compile_in(folder, compiler, "-fno-ipa-icf", "-fno-ipa-cp", "-fno-ipa-sra",
                              "-DSSM_IMPLEMENTATION", "-x", "c", "-S", "ssm.h", "-o", "ssm.s")
    if not worked:
        sys.exit(f"mutate.py: cannot compile\n{said}")
    with open(os.path.join(folder, "ssm.s"), encoding="utf-8") as f:
        found = assembly_of(said, f.read())
    for m in mutants:
        names = [n for n in found if re.search(rf"__m{m.number}(_|$)", n)]
        twin = lambda name: re.sub(r"__m(\d+)", r"__m\1plain", name)
        if all(found[n] == found[twin(n)].replace("plain", "") for n in names):
            m.fate = "equivalent"


def kill_sanitized(mutants, folder, options, reach):
    """Quick tests once more, where reading outside an array, or what was never written, is a failure."""
    arguments = [*SANITIZED, "tests/ssm_test.c", "-o", "ssm_sanitized", "-lm"]
    if not mutants or not compile_in(folder, options.compiler, *arguments)[0]:
        return # or a compiler without them
    program = os.path.join(folder, "ssm_sanitized")
    passes = lambda number, name: run_test(program, name, 60, SSM_MUTANT=str(number), ASAN_OPTIONS="detect_leaks=0")[0]
    for m in mutants:
        for name in reach.of(m.start):
            if reach.tests[name]["seconds"] < 0.2 and not passes(m.number, name) and passes(0, name):
                m.fate, m.killer = "killed", "sanitized " + name
                break


def bits_of(folder, number):
    """What tests/bits.c prints with a mutant; nothing if it crashes or takes too long."""
    done = subprocess.run(["sh", "-c", "ulimit -t 60; exec ./bits"], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "SSM_MUTANT": str(number)})
    return done.stdout if done.returncode == 0 else ""


def try_batch(source, mutants, options, reach, name):
    """Finds what becomes of each."""
    folder, mutants = without_errors(source, mutants, name, options.compiler)
    worked, said = compile_in(folder, options.compiler, "tests/ssm_test.c", "-o", "ssm_test", "-lm")
    if not worked:
        sys.exit(f"mutate.py: cannot compile the mutants\n{said}")
    program = os.path.join(folder, "ssm_test")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(lambda m: kill(m, program, reach), mutants):
            pass
    for test in {m.killer for m in mutants if m.fate == "killed"}:
        *isa, name = test.split()
        if not run_test(program, name, 600, *isa, SSM_MUTANT="0")[0]:
            sys.exit(f"mutate.py: {test} fails without a mutant")
    survivors = [m for m in mutants if m.fate == "survived"]
    if not survivors:
        return
    find_equivalent(source, survivors, options.compiler)
    kill_sanitized([m for m in survivors if m.fate == "survived"], folder, options, reach)
    worked, said = compile_in(folder, options.compiler, "tests/bits.c", "-o", "bits")
    if not worked:
        sys.exit(f"mutate.py: cannot compile tests/bits.c\n{said}")
    plain = bits_of(folder, 0)
    for m in survivors:
        if m.fate == "survived":
            m.killer = "" if bits_of(folder, m.number) == plain else "changes the hash of tests/bits.c"
            show(m)


def show(m):
    """A survivor, as a diff."""
    before, after = m.lines()
    print(f"{m.where()}{', ' + m.killer if m.killer else ''}\n-   {before}\n+   {after}", flush=True)


def main():
    """Draws, tries, counts."""
    parser = argparse.ArgumentParser(description="breaks ssm.h in one place after another and runs the tests")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--section", action="append")
    parser.add_argument("--function", action="append")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=300, help="mutants in one program")
    parser.add_argument("--longest", type=float, default=1000)
    parser.add_argument("--compiler", default=os.environ.get("CC", "cc"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    source = Source(options.compiler)
    mutants = all_mutants(source, options)
    print(f"{len(source.functions)} functions, {len(mutants)} mutants", flush=True)
    if options.again:
        mutants = survivors_of_last(mutants)
    elif not options.all and options.count < len(mutants):
        chosen = random.Random(options.seed).sample(range(len(mutants)), options.count)
        mutants = [mutants[i] for i in sorted(chosen)]
    for n, m in enumerate(mutants, 1):
        m.number = n
        if options.list:
            print("{}\n-   {}\n+   {}".format(m.where(), *m.lines()))
    if options.list:
        return 0
    os.makedirs(FOLDER, exist_ok=True)
    reach = Reach(source, options)
    for first in range(0, len(mutants), options.batch):
        try_batch(source, mutants[first:first + options.batch], options, reach, "batch")
    return report(mutants)


def survivors_of_last(mutants):
    """Those of them that the last run left, if the lines are still the same."""
    with open(os.path.join(FOLDER, "results"), encoding="ascii") as f:
        rows = f.read().split("\n")
    left = {(row.split(", ")[1], before[4:], after[4:]) for row, before, after in zip(rows[::3], rows[1::3], rows[2::3])
            if ", survived" in row}
    return [m for m in mutants if (m.function.name, *m.lines()) in left]


def report(mutants):
    """The last lines; what became of each mutant stays in a file."""
    with open(os.path.join(FOLDER, "results"), "w", encoding="ascii") as f:
        for m in mutants:
            f.write("{}, {} {}\n-   {}\n+   {}\n".format(m.where(), m.fate, m.killer, *m.lines()))
    fates = {fate: [m for m in mutants if m.fate == fate] for fate in ("killed", "survived", "equivalent", "invalid")}
    killed, survived = len(fates["killed"]), len(fates["survived"])
    invalid, equivalent = len(fates["invalid"]), len(fates["equivalent"])
    print(f"not counted: {invalid} that do not compile, {equivalent} that change no instruction")
    noticed = sum(bool(m.killer) for m in fates["survived"])
    sanitized = sum(m.killer.startswith("sanitized") for m in fates["killed"])
    print(f"of {killed} killed {sanitized} are noticed by sanitizers alone")
    print(f"of {survived} survivors {noticed} change the hash of tests/bits.c")
    share = 100 * killed / max(killed + survived, 1)
    print(f"{killed + survived} mutants, {killed} killed, {survived} survived ({share:.1f} %)")
    return share < ENOUGH


sys.exit(main())
