#!/usr/bin/env python3
"""Convert 30 seconds of an electrocardiogram to ecg.txt.

The wheel of SciPy 1.9.3 (any platform's) carries five minutes of record 208 of
the MIT-BIH Arrhythmia Database. To obtain it:

    pip download --no-deps --only-binary :all: scipy==1.9.3

Then, from this directory (Python 3 standard library only):

    python3 ecg.py scipy-1.9.3-*.whl

An optional second argument names the output (default: ecg.txt next to this
script). README.md documents the layout.
"""

import io
import os
import struct
import sys
import zipfile

MEMBER = "scipy/misc/ecg.dat"
WHOLE = 108000  # samples in the wheel: 5 minutes at 360 Hz
SAMPLES = 10800  # the first 30 seconds of them
ADC_ZERO = 1024
ADC_STEPS_PER_MILLIVOLT = 200


def parse(blob):
    """Return the ADC values of the .npz archive's one array, "ecg"."""
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        npy = archive.read("ecg.npy")
    assert npy[:8] == b"\x93NUMPY\x01\x00"
    (header_size,) = struct.unpack_from("<H", npy, 8)
    header = npy[10:10 + header_size].decode("latin-1")
    assert "'<u2'" in header and "(%d,)" % WHOLE in header
    assert len(npy) == 10 + header_size + 2 * WHOLE
    return struct.unpack_from("<%dH" % WHOLE, npy, 10 + header_size)


def main(argv):
    if len(argv) not in (2, 3):
        sys.exit("usage: ecg.py SCIPY_WHEEL [OUTPUT]")
    here = os.path.dirname(os.path.abspath(__file__))
    output = argv[2] if len(argv) == 3 else os.path.join(here, "ecg.txt")

    with zipfile.ZipFile(argv[1]) as wheel:
        adc = parse(wheel.read(MEMBER))
    # SciPy's documentation gives the mean of the whole, in mV.
    assert abs((sum(adc) / WHOLE - ADC_ZERO) / ADC_STEPS_PER_MILLIVOLT + 0.16510875) < 1e-9

    # One ADC step is exactly 0.005 mV, so three decimals lose nothing.
    with open(output, "w", newline="\n") as f:
        for a in adc[:SAMPLES]:
            f.write("%.3f\n" % ((a - ADC_ZERO) / ADC_STEPS_PER_MILLIVOLT))
    print("%s: %d bytes, %d samples" % (
        os.path.basename(output), os.path.getsize(output), SAMPLES))


if __name__ == "__main__":
    main(sys.argv)
