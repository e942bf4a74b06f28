import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from search_spaces import NAMED, Architecture, BadInput, check_shape, named_architecture

WIDTHS = st.lists(st.integers(1, 4096), min_size=1, max_size=6).map(tuple)


def test_the_papers_architectures():
    assert NAMED["paper-dense-mnist"].widths == (256, 32, 24)
    assert NAMED["paper-dense-mnist-3"].widths == (256, 64, 16)
    assert NAMED["paper-dense-tiles"].widths == (512, 256, 64, 32)
    assert NAMED["paper-conv"].widths == (16, *[32] * 7)
    assert NAMED["paper-conv"].family == "conv"
    assert NAMED["linear"].depth == 0


def test_an_alias_is_the_architecture_it_stands_for():
    alias = named_architecture("paper-dense-mnist")
    assert alias == Architecture.dense([256, 32, 24]) == named_architecture("dense-256-32-24")
    assert alias.name == "dense-256-32-24"
    assert hash(alias) == hash(Architecture.dense([256, 32, 24]))


def test_paper_conv_is_not_the_generic_net_of_its_channels():
    assert named_architecture("paper-conv") != Architecture.conv(NAMED["paper-conv"].widths)


@given(WIDTHS)
def test_every_name_leads_back(widths):
    for build in (Architecture.dense, Architecture.conv):
        architecture = build(widths)
        assert architecture.depth == len(widths)
        assert named_architecture(architecture.name) == architecture
        assert TypeAdapter(Architecture).validate_python(architecture.name) == architecture
        assert Architecture.model_validate_json(architecture.model_dump_json()) == architecture


@pytest.mark.parametrize(
    "name", ["paper-dense", "dense", "dense-", "dense-0", "dense-08", "dense-8-", "conv-3x3", ""]
)
def test_names_that_nothing_answers_to(name):
    with pytest.raises(BadInput, match="is not an architecture"):
        named_architecture(name)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'paper-conv'"):
        named_architecture("paper-cnov")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "linear", "family": "linear", "widths": (3,)},
        {"name": "dense", "family": "dense", "widths": ()},
        {"name": "dense-8", "family": "dense", "widths": (9,)},
        {"name": "dense-8", "family": "conv", "widths": (8,)},
        {"name": "paper-conv", "family": "conv", "widths": (16,)},
        {"name": "dense-0", "family": "dense", "widths": (0,)},
        {"name": "dense--3", "family": "dense", "widths": (-3,)},
        {"name": "dense-True", "family": "dense", "widths": (True,)},
        {"name": "mlp-8", "family": "mlp", "widths": (8,)},
    ],
)
def test_architectures_that_contradict_themselves(fields):
    with pytest.raises(ValidationError):
        Architecture(**fields)


@given(st.integers(1, 12), st.integers(1, 300), st.integers(1, 300))
def test_stages_fit_as_long_as_there_is_something_to_halve(depth, height, width):
    fits, sides = True, (height, width)
    for _ in range(depth):
        fits = fits and min(sides) > 1
        sides = tuple(-(-side // 2) for side in sides)
    architecture = Architecture.conv([4] * depth)
    if fits:
        check_shape(architecture, (1, height, width))
    else:
        with pytest.raises(BadInput, match=f"{height}x{width} pixels allow"):
            check_shape(architecture, (1, height, width))


def test_shapes_that_do_not_fit():
    with pytest.raises(BadInput, match="needs images, and these are vectors of 784 values"):
        check_shape(Architecture.conv([4]), (784,))
    with pytest.raises(BadInput, match="needs images, and these are vectors"):
        check_shape(NAMED["paper-conv"], (784,))
    with pytest.raises(BadInput, match="28x28 pixels, and these are 32x32"):
        check_shape(NAMED["paper-conv"], (1, 32, 32))


def test_shapes_that_fit():
    check_shape(NAMED["paper-conv"], (3, 28, 28))
    check_shape(Architecture.dense([8]), (784,))
    check_shape(Architecture.dense([8]), (1, 28, 28))
    check_shape(Architecture.linear(), (1, 1, 1))
