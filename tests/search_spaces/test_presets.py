import pytest
import yaml

from search_spaces import BadInput, load_spec, plan_trials, preset_names, preset_path


def test_names():
    assert {"mnist-dense", "quickstart"} <= set(preset_names())
    assert preset_names() == sorted(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_plan_with_its_own_name_and_a_word_on_why(name):
    spec = load_spec(name)
    assert spec.study == name
    assert spec.description
    assert plan_trials(spec)
    text = preset_path(name).read_text()
    assert text.startswith("# ")
    assert load_spec(yaml.safe_load(text)) == spec


def test_hyphens_and_underscores_are_alike():
    assert preset_path("mnist-dense") == preset_path("mnist_dense")


@pytest.mark.parametrize("name", ["quickstrt", "../quickstart", "", "*"])
def test_unknown_presets(name):
    with pytest.raises(BadInput, match=r"is not a preset \((did you mean|choose from)"):
        preset_path(name)


def test_quickstart_shows_both_families_two_betas_and_two_seeds():
    trials = plan_trials(load_spec("quickstart"))
    assert {trial.architecture.name for trial in trials} == {"dense-512-256-64-32", "paper-conv"}
    assert len({trial.beta for trial in trials}) == 2
    assert len({trial.seed for trial in trials}) == 2
    assert len({trial.latent_dim for trial in trials}) >= 3


def test_mnist_dense_is_the_papers_net_on_mnist():
    trials = plan_trials(load_spec("mnist-dense"))
    assert {trial.dataset.label for trial in trials} == {"mnist"}
    assert {trial.architecture.widths for trial in trials} == {(256, 32, 24)}
    assert 16 in {trial.latent_dim for trial in trials}
