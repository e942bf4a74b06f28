"""A study with parts, through the real command line: alone, together, recorded each its own way."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from study import load_study
from tests.end_to_end.command import (
    contents,
    left_over,
    measured,
    succeed,
    table,
    vae_study,
    write_spec,
)

pytestmark = pytest.mark.usefixtures("shared_ray")

SPEC: dict[str, Any] = {
    "study": "both",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 100},
    "training": {"epochs": 2},
    "parts": {
        "watched": {
            "axes": {"architecture": "dense-16", "latent_dim": 2, "seed": [0, 1]},
            "record": {"every": 1, "models": True},
        },
        "other-net": {
            "axes": {"architecture": ["dense-16", "linear"], "latent_dim": 3},
            "training": {"epochs": 3},
        },
    },
    "scales": {
        "small": {"parts.other-net.training.epochs": 1, "parts.watched.axes.seed": 0},
    },
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a study of which one part ran first, and the other was added to it."""
    folder = tmp_path_factory.mktemp("parts")
    path = write_spec(folder, SPEC)
    plan = succeed(folder, "plan", path)
    assert "both: 4 trials" in plan
    assert [line.split()[1:4:2] for line in plan.splitlines() if "│ watched" in line] == [
        ["watched", "2"]
    ]
    succeed(folder, "run", path, "--part", "watched")
    first = contents(folder / "studies" / "both")
    assert len(table(folder, "both", "trials")) == 2

    refused = vae_study(folder, "run", path)
    assert refused.returncode == 2
    assert "'both' has another spec" in refused.stderr
    assert "+  other-net:" in refused.stderr
    assert contents(folder / "studies" / "both") == first

    succeed(folder, "run", path, "--extend", report=True)
    now = contents(folder / "studies" / "both")
    for name, data in first.items():
        if name.startswith(("trials/", "units/", "epochs/", "models/")):
            assert now[name] == data, f"{name}: a trial of the first part was run again"
    return folder


def test_all_parts_are_in_the_tables_of_one_study(grown: Path) -> None:
    trials = table(grown, "both", "trials")
    shown = trials[["architecture", "latent_dim", "epochs", "seed", "status"]].sort_values(
        ["epochs", "architecture", "seed"]
    )
    assert shown.to_numpy().tolist() == [
        ["dense-16", 2, 2, 0, "completed"],
        ["dense-16", 2, 2, 1, "completed"],
        ["dense-16", 3, 3, 0, "completed"],
        ["linear", 3, 3, 0, "completed"],
    ]
    plan = table(grown, "both", "plan")
    assert plan["part"].tolist() == ["watched", "watched", "other-net", "other-net"]
    assert set(plan["trial_id"]) == set(trials["trial_id"])
    assert "4 of 4 trials done" in succeed(grown, "status", "both")
    assert left_over(grown / "studies" / "both") == []


def test_each_part_is_recorded_its_own_way(grown: Path) -> None:
    study = load_study(grown / "studies" / "both")
    plan = table(grown, "both", "plan").set_index("trial_id")["part"]
    epochs = study.units.groupby("trial_id")["epoch"].unique().map(sorted)
    for trial_id, part in plan.items():
        assert epochs[trial_id] == ([0, 1, 2] if part == "watched" else [3]), part
    kept = {path.stem for path in (grown / "studies" / "both" / "models").iterdir()}
    assert kept == set(plan.index[plan == "watched"])


def test_the_spec_is_kept_and_shown(grown: Path) -> None:
    frozen = yaml.safe_load((grown / "studies" / "both" / "study.yaml").read_text())
    assert list(frozen["parts"]) == ["watched", "other-net"]
    assert frozen["parts"]["other-net"]["training"] == {"epochs": 3}
    spec = load_study(grown / "studies" / "both").spec
    assert list(spec.all_parts) == ["watched", "other-net"]
    assert "other-net:" in (grown / "studies" / "both" / "report.html").read_text()
    succeed(grown, "report", "both", "--format", "md", "-o", "report.md")
    assert "  other-net:" in (grown / "report.md").read_text()
    before = contents(grown / "studies" / "both" / "trials")
    for command in (("resume", "both"), ("run", "spec.yaml")):
        done = vae_study(grown, *command)
        assert done.returncode == 0, done.stderr
        assert "all 4 trials are done already" in done.stderr
    assert contents(grown / "studies" / "both" / "trials") == before


def test_a_part_alone_is_reused_by_the_whole_and_the_other_way(grown: Path) -> None:
    path = grown / "spec.yaml"
    done = vae_study(grown, "run", path, "--part", "other-net", "--set", "study=alone")
    assert done.returncode == 0, done.stderr
    assert "2 trials taken from study both" in done.stderr
    # Its trials are the same points, but of these other things are recorded.
    more = ("--set", "study=more", "--set", "parts.other-net.record.every=1")
    done = vae_study(grown, "run", path, *more)
    assert done.returncode == 0, done.stderr
    assert "2 trials taken from study both" in done.stderr
    assert "from study alone" not in done.stderr
    units = load_study(grown / "studies" / "more").units
    assert units.groupby("trial_id")["epoch"].nunique().sort_values().tolist() == [3, 3, 4, 4]


def test_parts_give_the_numbers_that_a_study_without_parts_gives(grown: Path) -> None:
    plain = {
        "study": "plain",
        "dataset": SPEC["dataset"],
        "axes": {"architecture": ["dense-16", "linear"], "latent_dim": 3},
        "training": {"epochs": 3},
    }
    succeed(grown, "run", write_spec(grown, plain, "plain.yaml"), "--no-reuse")
    ours = table(grown, "both", "trials")
    theirs = table(grown, "plain", "trials")
    ours = ours[ours["trial_id"].isin(theirs["trial_id"])]
    one, two = (
        measured(frame.drop(columns="study"), ["trial_id"]).drop(columns=["version"])
        for frame in (ours, theirs)
    )
    assert len(one) == 2
    assert one.equals(two)


def test_a_scale_is_another_study(grown: Path) -> None:
    path, small = grown / "spec.yaml", ("--set", "scale=small")
    assert "both: 3 trials, scale 'small'" in succeed(grown, "plan", path, *small)
    before = contents(grown)
    refused = vae_study(grown, "run", path, *small)
    assert refused.returncode == 2
    assert "'both' has scale 'full', and this is scale 'small'" in refused.stderr
    assert "give the study another name" in refused.stderr
    assert contents(grown) == before
    named = (*small, "--set", "study=few", "--set", "parts.watched.axes.seed=[0, 1]")
    done = vae_study(grown, "run", path, *named)
    assert done.returncode == 0, done.stderr
    assert "2 trials taken from study both" in done.stderr
    trials = table(grown, "few", "trials")
    assert sorted(trials["epochs"]) == [1, 1, 2, 2]
    frozen = yaml.safe_load((grown / "studies" / "few" / "study.yaml").read_text())
    assert (frozen["scale"], frozen["scales"]) == ("small", {"small": {}})
    done = vae_study(grown, "resume", "few")
    assert "all 4 trials are done already" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--part", "watchd"), "'watchd' is not a part of this study (did you mean 'watched'?)"),
        (("--set", "parts.othernet.training.epochs=3"), "(did you mean 'other-net'?)"),
        (("--set", "scale=smal"), "scale: 'smal' is not a scale of this study"),
        (("--set", "parts.watched.training.epochs=0"), "parts.watched.training.epochs: 0 is not"),
        (("--part", "a]"), "'a]' is not a part of this study"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_refused(grown: Path, command: str, options: tuple[str, ...], message: str) -> None:
    before = contents(grown)
    done = vae_study(grown, command, "spec.yaml", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("vae-study: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(grown) == before
