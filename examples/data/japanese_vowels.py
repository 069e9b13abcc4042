#!/usr/bin/env python3
"""Convert the UCI Japanese Vowels data set to japanese_vowels.bin.

The sktime wheel carries the data set as two text files. To obtain it:

    pip download --no-deps sktime==1.2.0

Then, from this directory (Python 3 standard library only):

    python3 japanese_vowels.py sktime-1.2.0-py3-none-any.whl

An optional second argument names the output (default: japanese_vowels.bin
next to this script). README.md documents the layout.
"""

import math
import os
import struct
import sys
import zipfile

MAGIC = b"JVOW"
VERSION = 1
CHANNELS = 12
CLASSES = 9
MEMBER = "sktime/datasets/data/JapaneseVowels/JapaneseVowels_%s.ts"

# Documented by the data set's authors.
TRAIN_CLASS_COUNTS = [30] * CLASSES
TEST_CLASS_COUNTS = [31, 35, 88, 44, 29, 24, 40, 50, 29]
TRAIN_FRAMES = 4274
TEST_FRAMES = 5687


def parse_channel(text):
    """Comma-separated values, without padding ("?" or NaN) at the end."""
    values = [math.nan if v == "?" else float(v) for v in text.split(",")]
    while values and math.isnan(values[-1]):
        values.pop()
    return values


def parse(text):
    """Return [(label 0..8, frames)], frames being a list of 12-tuples."""
    lines = text.splitlines()
    start = next(i for i, s in enumerate(lines) if s.strip().lower() == "@data")
    utterances = []
    for line in lines[start + 1:]:
        if not line.strip():
            continue
        *channels, label = line.strip().split(":")
        channels = [parse_channel(c) for c in channels]
        assert len(channels) == CHANNELS
        assert len({len(c) for c in channels}) == 1, "ragged utterance"
        frames = list(zip(*channels))
        assert 7 <= len(frames) <= 29
        assert all(math.isfinite(v) for frame in frames for v in frame)
        utterances.append((int(label) - 1, frames))
    return utterances


def check(utterances, class_counts, frame_count):
    labels = [label for label, _ in utterances]
    # Both files list the speakers in order, which also pins the order.
    assert labels == sorted(labels)
    assert [labels.count(k) for k in range(CLASSES)] == class_counts
    assert len(labels) == sum(class_counts)
    assert sum(len(frames) for _, frames in utterances) == frame_count


def main(argv):
    if len(argv) not in (2, 3):
        sys.exit("usage: japanese_vowels.py SKTIME_WHEEL [OUTPUT]")
    here = os.path.dirname(os.path.abspath(__file__))
    output = argv[2] if len(argv) == 3 else os.path.join(here, "japanese_vowels.bin")

    with zipfile.ZipFile(argv[1]) as wheel:
        train, test = (parse(wheel.read(MEMBER % part).decode("utf-8"))
                       for part in ("TRAIN", "TEST"))
    check(train, TRAIN_CLASS_COUNTS, TRAIN_FRAMES)
    check(test, TEST_CLASS_COUNTS, TEST_FRAMES)

    utterances = train + test
    blob = bytearray(MAGIC)
    blob += struct.pack("<7I", VERSION, CHANNELS, CLASSES, len(train), len(test),
                        TRAIN_FRAMES, TEST_FRAMES)
    for label, frames in utterances:
        blob += struct.pack("<2H", label, len(frames))
    for _, frames in utterances:
        for frame in frames:
            blob += struct.pack("<%df" % CHANNELS, *frame)
    assert len(blob) == 32 + 4 * 640 + 4 * CHANNELS * (TRAIN_FRAMES + TEST_FRAMES)

    with open(output, "wb") as f:
        f.write(blob)
    print("%s: %d bytes, %d + %d utterances, %d + %d frames" % (
        os.path.basename(output), len(blob), len(train), len(test),
        TRAIN_FRAMES, TEST_FRAMES))


if __name__ == "__main__":
    main(sys.argv)
