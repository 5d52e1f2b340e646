"""Films by DICOM for the bench: the unit is a process of its own, and costs the node nothing."""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from pydicom.dataset import Dataset

from tests import films
from tests.sending import Unit

#: A CR film of 1024 x 1024 with 16 bits allocated: 2 MB.
SIZE = (1024, 1024)


def drawn(count: int) -> list[Dataset]:
    """Films that differ, drawn by chance."""
    chance = np.random.default_rng(1)
    pixels = chance.integers(0, 4096, SIZE, dtype=np.uint16)
    made = []
    for number in range(count):
        pixels[0, :2] = divmod(number, 4096)
        made.append(films.dataset(pixels, 12))
    return made


def main(arguments: list[str]) -> None:
    """Print the seconds from the first association to the last acknowledgement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--associations", type=int, default=4)
    options = parser.parse_args(arguments)
    sent = drawn(options.films)
    unit = Unit(options.port, sent, options.associations)
    begin = time.perf_counter()
    unit.start()
    unit.wait()
    seconds = time.perf_counter() - begin
    assert len(unit.acknowledged) == len(sent), "films are missing"
    print(seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
