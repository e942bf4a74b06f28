import pytest
import yaml

from search_spaces import BadInput, load_spec, plan_parts, plan_trials, preset_names, preset_path


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


@pytest.mark.parametrize("name", preset_names())
def test_every_scale_of_a_preset_trains_less(name):
    full = work(load_spec(name))
    for scale in load_spec(name).scales or {}:
        assert 0 < work(load_spec(name, [f"scale={scale}"])) < full / 10


def work(spec):
    """Images that all trials see."""
    return sum(trial.epochs * (trial.dataset.train_images or 60_000) for trial in plan_trials(spec))


SWEEPS = (
    "dense-mnist",
    "dense-mnist-gaussian",
    "dense-tiles",
    "dense-tiles-gaussian",
    "conv",
    "conv-gaussian",
)


def test_paper_sweeps_the_paper_s_nets_at_its_latent_dimension():
    parts = plan_parts(load_spec("paper"))
    swept = [trial for part in SWEEPS for trial in parts[part]]
    assert {t.latent_dim for t in swept} == {16}
    assert {(t.dataset.label, t.architecture.name) for t in swept} == {
        ("mnist", "dense-256-32-24"),
        ("tiles", "dense-512-256-64-32"),
        ("mnist", "paper-conv"),
        ("tiles", "paper-conv"),
    }
    # The plain sum of squared errors is a Gaussian's of variance one half.
    assert {t.decoder_variance for t in swept if t.decoder == "gaussian"} == {0.5}
    # Settings that all four nets were tried with, so that one of them may be closest to all counts.
    settings = [
        {(t.beta, t.decoder, t.initialisation) for t in swept if (t.dataset, t.architecture) == net}
        for net in {(t.dataset, t.architecture) for t in swept}
    ]
    common = set.intersection(*settings)
    assert len({beta for beta, decoder, _ in common if decoder == "bernoulli"}) >= 3
    assert any(decoder == "gaussian" for _, decoder, _ in common)
    assert {t.latent_dim for t in parts["two-dimensions"]} == {2}
    assert {(t.latent_dim, t.objective) for t in parts["sampling"]} == {
        (3, "elbo"),
        (3, "no_sampling"),
    }


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


def test_paper_full_holds_the_sweeps_of_paper_and_more():
    """So that it takes over what has been trained, and says what training for longer changes."""
    narrow, wide = plan_parts(load_spec("paper")), plan_trials(load_spec("paper-full"))
    known = {trial.model_dump_json() for trial in wide}
    for part in SWEEPS:
        assert {trial.model_dump_json() for trial in narrow[part]} < known
    assert {trial.decoder for trial in wide} == {"bernoulli", "gaussian", "gaussian_learned"}
    for name in ("learning_rate", "epochs", "beta"):
        widened = {getattr(trial, name) for trial in wide}
        assert widened > {getattr(trial, name) for trial in narrow["dense-mnist"]}
