#!/usr/bin/env python3
"""check_kernels.py - no kernel of ssm.h leaves a product in a sum, where a compiler may make one instruction of both.

    check_kernels.py [FILE]      FILE: ssm.h

Looks at the sections >>kernels-*: an argument of v_add or v_sub must not be a product, be it v_mul(...) itself, its
negative, a variable that was last set to one, or a function that returns one; and no expression may multiply reals
in plain C and add, too. Reads text, not C: what it cannot see, tests/bits.c measures.
"""
import re
import sys

# Products by a power of two are exact, so that fusing them changes nothing.
EXACT = {"v_exp", "v_exp_negative", "v_exp2_any"}
NAME = r"[A-Za-z_]\w*"


def sections(text):
    """(first line, text) of each kernels section, without comments, literals' signs and preprocessor lines."""
    parts = re.split(r"(?m)^(?=/\*=+\n \* >>)", text)
    line = 1
    for part in parts:
        if re.match(r"/\*=+\n \* >>kernels-", part):
            blank = lambda m: re.sub(r"[^\n]", " ", m.group())
            part_code = re.sub(r"/\*.*?\*/", blank, part, flags=re.S)
            part_code = re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, part_code)
            yield line, re.sub(r"(?<=[\de])e-(?=\d)|(?<=\d)e-(?=\d)", "e", part_code)
        line += part.count("\n")


def functions(code):
    """(offset, head, body) of each top-level { ... }."""
    depth, start, last = 0, 0, 0
    for i, c in enumerate(code):
        if c == "{":
            if depth == 0:
                start = i
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                yield last, code[last:start], code[start:i + 1]
                last = i + 1


def arguments(code, opening):
    """Texts of the arguments of a call, from its opening parenthesis, and the offset after its closing one."""
    depth, start, found = 0, opening + 1, []
    for i in range(opening, len(code)):
        if code[i] in "([{":
            depth += 1
        elif code[i] in ")]}":
            depth -= 1
        if depth == 0 or (depth == 1 and code[i] == ","):
            found.append(code[start:i].strip())
            start = i + 1
        if depth == 0:
            return found, i + 1
    return found, len(code)


def is_product(expression, variables, makers):
    """Whether an expression is a product, or the negative or a choice of one."""
    e = expression.strip()
    while e.startswith("(") and arguments(e, 0)[1] == len(e):
        e = e[1:-1].strip()
    if "?" in e:
        branches = re.split(r"[?:]", e)[1:]
        return any(is_product(b, variables, makers) for b in branches)
    call = re.match(rf"({NAME})\s*\(", e)
    if call:
        args, end = arguments(e, call.end() - 1)
        if e[end:].strip():
            return False
        name = call.group(1)
        if name == "v_neg":
            return is_product(args[0], variables, makers)
        if name == "v_select":
            return any(is_product(a, variables, makers) for a in args[1:])
        return name in makers
    return e in variables


def check_vectors(body, makers):
    """(offset, what) of each v_add or v_sub of a product. Variables in the order of the text."""
    variables = set()
    event = re.compile(rf"\b(v_add|v_sub)\s*\(|\b({NAME}(?:\.{NAME})?)\s*=(?!=)")
    for m in event.finditer(body):
        if m.group(1):
            args, end = arguments(body, m.end() - 1)
            for a in args:
                if is_product(a, variables, makers):
                    yield m.start(), " ".join(body[m.start():end].split())
        else:
            depth, end = 0, m.end()
            while end < len(body) and not (depth == 0 and body[end] in ",;)}"):
                depth += (body[end] in "([") - (body[end] in ")]")
                end += 1
            if is_product(body[m.end():end], variables, makers):
                variables.add(m.group(2))
            else:
                variables.discard(m.group(2))


def check_scalars(head, body):
    """(offset, what) of each statement that multiplies and adds reals in plain C."""
    declared = head + body
    reals = set(re.findall(rf"\bssm_real\s*\*?\s*(?:SSM__RESTRICT\s*)?(?:const\s*)?({NAME})", declared))
    for line in re.findall(r"\bssm_real\b([^;()]*);", declared):
        reals |= set(re.findall(rf"(?:^|,)\s*\*?\s*({NAME})", line))
    at = 0
    for statement in re.split(r"[;{}]", body):
        start, at = at, at + len(statement) + 1
        flat, depth = "", 0
        for c in statement:  # index arithmetic is of integers
            depth -= c == "]"
            if depth == 0:
                flat += c
            depth += c == "["
        flat = re.sub(r"\(\s*(?:const\s+)?(?:ssm_real|ptrdiff_t|size_t)\s*\)", "", flat)
        number = rf"(?:({NAME}(?:(?:->|\.){NAME})*)(\[\])?|(\d+\.\d*f?)|SSM__K\([^()]*\))"
        product = False
        for m in re.finditer(rf"(?<=[\w\])])\s*\*\s*(?={NAME}|\d|\()", flat):
            left = re.search(number + r"$", flat[:m.start()])
            right = re.match(number, flat[m.end():])
            if re.search(r"(?:ssm_real|const|int8_t|uint16_t|char|void)$", flat[:m.start()]):
                continue  # a declaration
            for side in (left, right):
                if side and (not side.group(1) or side.group(1) in reals):
                    product = True
        if product and re.search(r"[^-+<>=*/(,?:&|]\s*(?:\+=|-=|\+(?!\+)|-(?![->]))\s*[\w(]", flat):
            yield start, " ".join(statement.split())


def check(text):
    """'line: why: text' for every fault."""
    makers = {"v_mul"}
    while True:  # functions that return a product, and those that return theirs
        before = len(makers)
        for _, code in sections(text):
            for _, head, body in functions(code):
                name = re.search(rf"\b({NAME})\s*\([^()]*\)\s*$", head)
                result = re.findall(r"\breturn\b([^;]*);", body)
                if name and name.group(1) not in EXACT and any(is_product(r, set(), makers) for r in result):
                    makers.add(name.group(1))
        if len(makers) == before:
            break
    faults = []
    for line, code in sections(text):
        for offset, head, body in functions(code):
            base = offset + len(head)
            for at, what in list(check_vectors(body, makers)):
                faults.append(f"{line + code.count(chr(10), 0, base + at)}: a product in a sum: {what}")
            for at, what in check_scalars(head, body):
                faults.append(f"{line + code.count(chr(10), 0, base + at)}: reals multiplied and added: {what}")
    return faults


def self_test():
    """What must be found, and what must not."""
    banner = "/*====\n * >>kernels-x\n */\n"
    bad = [
        "f(v_real a) { return v_add(a, v_mul(a, a)); }",
        "f(v_real a) { return v_sub(v_neg(v_mul(a, a)), a); }",
        "f(v_real a) { const v_real b = v_mul(a, a), c = v_add(b, a); return c; }",
        "SSM__OP v_real g(v_real a) { return v_mul(a, a); }\nv_real f(v_real a) { return v_add(g(a), a); }",
        "f(ssm_real a, ssm_real b) { return a * b + 1; }",
        "f(const ssm_real *p) { ssm_real s = 0; s += p[1] * p[2]; }",
        "f(ssm_real a) { return 2.0f * a - 1; }",
    ]
    good = [
        "f(v_real a) { return v_fma(a, a, v_mul(a, a)); }",
        "f(v_real a) { return v_mul(a, v_add(a, a)); }",
        "f(v_real a) { v_real b = v_mul(a, a); b = v_add(a, a); return v_add(b, a); }",
        "f(const ssm_real *p, size_t n) { v_store(p + 2 * n, v_load(p + n * 16 + 3)); }",
        "f(const ssm_real *p) { const ssm_real *A = p + 4 * next, *h = b->h; return p[4 * n + 1]; }",
        "f(void) { p = v_fma(p, x, v_set(1.5e-3f)); A += 4 * A_next; }",
    ]
    for text in bad:
        if not check(banner + "v_real " + text):
            return f"not found: {text}"
    for text in good:
        if check(banner + "v_real " + text):
            return f"wrongly found: {check(banner + 'v_real ' + text)}"
    return ""


def main():
    """Prints the results."""
    with open(sys.argv[1] if len(sys.argv) > 1 else "ssm.h", encoding="ascii") as f:
        text = f.read()
    wrong = self_test()
    print(wrong and f"{wrong}\nFAIL kernels/checker" or "ok   kernels/checker")
    faults = check(text)
    for fault in faults:
        print(f"ssm.h:{fault}")
    print("FAIL kernels/products" if faults else "ok   kernels/products")
    return bool(wrong or faults)


sys.exit(main())
