"""A study with another spec: refused, unless it only adds points and that is asked for."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import (
    contents,
    succeed,
    table,
    vae_study,
    write_spec,
)

pytestmark = pytest.mark.usefixtures("shared_ray")

SPEC: dict[str, Any] = {
    "study": "grows",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 100},
    "axes": {
        "architecture": {"family": "dense", "widths": [16]},
        "latent_dim": [2, 3],
        "beta": [0.5, 2],
        "seed": [0, 1],
    },
    "training": {"epochs": 2},
}


def changed(section: str, **fields: Any) -> dict[str, Any]:
    return SPEC | {section: SPEC.get(section, {}) | fields}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a finished grid of eight trials."""
    folder = tmp_path_factory.mktemp("finished")
    succeed(folder, "run", write_spec(folder, SPEC))
    assert len(table(folder, "grows", "trials")) == 8
    return folder


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (changed("axes", latent_dim=[2, 3, 4]), [], ["--extend", "-  latent_dim", "+  latent_dim"]),
        (changed("axes", latent_dim=[3, 4]), ["--extend"], ["4 planned trials", "latent_dim 2"]),
        (changed("axes", seed=[0]), ["--extend"], ["4 planned trials", "seed 1"]),
        (changed("training", epochs=3), ["--extend"], ["8 planned trials", "epochs 2"]),
        (changed("training", epochs=3), [], ["-", "+", "epochs: 3"]),
        (changed("record", every=1), ["--extend"], ["record", "every: 1"]),
        (changed("dataset", seed=1), ["--extend"], ["8 planned trials"]),
    ],
)
def test_refused(
    finished: Path, spec: dict[str, Any], options: list[str], words: list[str]
) -> None:
    before = contents(finished)
    path = write_spec(finished.parent, spec, "changed.yaml")
    done = vae_study(finished, "run", path, *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("vae-study: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert contents(finished) == before


def test_extended_by_one_value(finished: Path) -> None:
    """Description and resources may change at any time; then come the new points alone."""
    before = contents(finished / "studies" / "grows")
    old = table(finished, "grows", "trials").set_index("trial_id").sort_index()
    harmless = changed("resources", pack_size=2) | {"description": "other words"}
    done = vae_study(finished, "run", write_spec(finished, harmless))
    assert done.returncode == 0, done.stderr
    assert "all 8 trials are done already" in done.stderr

    longer = changed("axes", latent_dim=[2, 3, 4]) | {"resources": {"pack_size": 3}}
    done = vae_study(finished, "run", write_spec(finished, longer), "--extend")
    assert done.returncode == 0, done.stderr
    after = contents(finished / "studies" / "grows")
    for name, data in before.items():
        if name.startswith(("trials/", "units/", "epochs/")):
            assert after[name] == data, name
    trials = table(finished, "grows", "trials").set_index("trial_id")
    assert len(trials) == 12
    new = trials.drop(index=old.index)
    assert set(new["latent_dim"]) == {4}
    assert set(new[["beta", "seed"]].itertuples(index=False, name=None)) == {
        (beta, seed) for beta in (0.5, 2) for seed in (0, 1)
    }
    assert trials.loc[old.index].sort_index().equals(old)
    assert "12 of 12 trials done" in succeed(finished, "status", "grows")

    # The study's spec is now the longer one: it may be run again, and the old one may not.
    longer_path = finished / "spec.yaml"
    assert vae_study(finished, "run", longer_path).returncode == 0
    refused = vae_study(finished, "run", write_spec(finished, SPEC), "--extend")
    assert refused.returncode == 2
    assert "latent_dim 4" in refused.stderr
