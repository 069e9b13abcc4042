#!/usr/bin/env python3
"""Convert the monthly mean sunspot numbers of 1749 to 2009 to sunspots.txt.

The statsmodels wheel (any platform's) carries them as a text table. To obtain it:

    pip download --no-deps statsmodels==0.15.0

Then, from this directory (Python 3 standard library only):

    python3 sunspots.py statsmodels-0.15.0-*.whl

An optional second argument names the output (default: sunspots.txt next to
this script). README.md documents the layout.
"""

import os
import sys
import zipfile

MEMBER = "statsmodels/datasets/sunspots/src/sunspots_monthly.dat"
FIRST_YEAR = 1749
LAST_YEAR, LAST_MONTH = 2009, 6
MONTHS = 12 * (LAST_YEAR - FIRST_YEAR) + LAST_MONTH


def parse(text):
    """Return the numbers as strings, as they stand in the table (one decimal)."""
    values = []
    year = FIRST_YEAR
    table = text.split("-" * 79)[1]  # between the two rules
    for line in table.splitlines():
        fields = line.split()
        if not fields:
            continue
        assert int(fields[0]) == year, "a year is missing: %r" % line
        assert len(fields) == (13 if year < LAST_YEAR else 1 + LAST_MONTH)
        values += fields[1:]
        year += 1
    return values


def check(values):
    assert len(values) == MONTHS
    numbers = [float(v) for v in values]
    assert all("%.1f" % x == v for x, v in zip(numbers, values))
    assert min(numbers) == 0.0 and max(numbers) == 253.8
    # October 1957, the highest month of the record.
    assert numbers.index(253.8) == 12 * (1957 - FIRST_YEAR) + 9


def main(argv):
    if len(argv) not in (2, 3):
        sys.exit("usage: sunspots.py STATSMODELS_WHEEL [OUTPUT]")
    here = os.path.dirname(os.path.abspath(__file__))
    output = argv[2] if len(argv) == 3 else os.path.join(here, "sunspots.txt")

    with zipfile.ZipFile(argv[1]) as wheel:
        values = parse(wheel.read(MEMBER).decode("ascii"))
    check(values)

    with open(output, "w", newline="\n") as f:
        f.write("".join(v + "\n" for v in values))
    print("%s: %d bytes, %d months" % (
        os.path.basename(output), os.path.getsize(output), len(values)))


if __name__ == "__main__":
    main(sys.argv)
