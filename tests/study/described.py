"""Images in memory, and how to pick an estimate out of a `datasets` table, for tests."""

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from trainables.datasets import ImageData

Array = NDArray[Any]


def images_of(train: Array) -> ImageData:
    return ImageData("mine", train.shape[1:], train, train[:1], None, None, "f" * 20)


def value(rows: pd.DataFrame, method: str, variant: str | None = None) -> float:
    found = rows[rows["method"] == method]
    if variant is not None:
        found = found[found["variant"] == variant]
    (only,) = found["value"]
    return float(only)
