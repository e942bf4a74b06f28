import pytest

from search_spaces import BadInput, nearest_name


def test_bad_input_is_a_value_error_with_its_message():
    assert issubclass(BadInput, ValueError)
    assert str(BadInput("axes.beta: -1 is not allowed")) == "axes.beta: -1 is not allowed"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bta", " (did you mean 'beta'?)"),
        ("BETA", " (did you mean 'beta'?)"),
        ("latent-dim", " (did you mean 'latent_dim'?)"),
        ("xyz", " (choose from 'beta', 'latent_dim')"),
        ("", " (choose from 'beta', 'latent_dim')"),
    ],
)
def test_nearest_name_suggests_or_lists(name, expected):
    assert nearest_name(name, ["latent_dim", "beta"]) == expected
