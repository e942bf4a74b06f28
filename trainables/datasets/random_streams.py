"""The random streams that generated data and random splits are drawn from."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is for; each purpose has its own, whatever the others draw."""

    TRAIN = 0
    TEST = 1
    DECODER = 2
    SPLIT = 3


def random_stream(seed: int, stream: Stream) -> np.random.Generator:
    """The generator of one purpose; streams of equal seed are independent of each other."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(stream),))
    return np.random.Generator(np.random.PCG64(sequence))
