"""Images of `samples`, from bytes to numbers and to PNG, and back."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from analysis.images import drawable, image_values, picture_address


def rows(values: list[bytes], shape: str = "1x2x3", low: float = 0.0, high: float = 1.0):
    return pd.DataFrame({"pixels": values, "shape": shape, "low": low, "high": high})


def test_values_run_from_low_to_high():
    frame = rows([bytes([0, 51, 255])] * 2, "3").assign(low=[0.0, -1.0], high=[1.0, 4.0])
    np.testing.assert_allclose(image_values(frame), [[0, 0.2, 1], [-1, 0, 4]])


def test_rows_that_make_no_array_are_refused():
    frame = rows([bytes(6)])
    with pytest.raises(ValueError, match="the shapes 1x2x3, 6; take those of one dataset"):
        image_values(pd.concat([frame, frame.assign(shape="6")]))
    with pytest.raises(ValueError, match="original is null in some rows"):
        image_values(frame.assign(original=None), "original")
    assert len(image_values(frame.iloc[:0])) == 0


def decoded(address: str) -> np.ndarray:
    kind, _, text = address.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.randoms())
def test_a_picture_holds_the_bytes(height: int, width: int, channels: int, random):
    values = np.array([random.randrange(256) for _ in range(channels * height * width)], np.uint8)
    shape = f"{channels}x{height}x{width}"
    assert drawable(shape)
    shown = decoded(picture_address(values.tobytes(), shape))
    expected = values.reshape(channels, height, width)
    np.testing.assert_array_equal(
        shown, expected[0] if channels == 1 else expected.transpose(1, 2, 0)
    )


@pytest.mark.parametrize("shape", ["784", "2x28x28", "4x5x5"])
def test_not_every_shape_makes_a_picture(shape: str):
    assert not drawable(shape)
