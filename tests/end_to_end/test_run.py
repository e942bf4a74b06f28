"""A study from its spec to its tables, as a user runs it and reads it."""

import io
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from study.tables import SCHEMAS
from tests.end_to_end.command import (
    CPUS,
    contents,
    environment,
    left_over,
    started,
    succeed,
    table,
    vae_study,
    write_spec,
)

pytestmark = pytest.mark.usefixtures("shared_ray")

EPOCHS, LATENT_DIMS, BETAS = 4, [2, 5], [0.5, 2]
SPEC: dict[str, Any] = {
    "study": "small",
    "description": "two architectures",
    "dataset": {"name": "tiles", "train_images": 400, "test_images": 120},
    "axes": {
        "architecture": [
            {"family": "dense", "widths": [32, 16]},
            {"family": "conv", "channels": [4]},
        ],
        "latent_dim": LATENT_DIMS,
        "beta": BETAS,
    },
    "training": {"epochs": EPOCHS, "precision": "float64"},
    "record": {"every": 2, "reconstruction_gain_images": 50},
}
RECORDED = [0, 2, 4]


class Ran:
    """A finished study, what its run printed, and what reading it mid-way gave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = folder / "studies" / "small"
        spec = write_spec(folder, SPEC)
        self.seen: list[int] = []
        with started(folder, "run", spec, *CPUS, report=True) as process:
            while process.poll() is None:
                if (self.study / "trials" / "empty.parquet").exists():
                    self.seen.append(len(pd.read_parquet(self.study / "trials")))
                    pd.read_parquet(self.study / "units")
                time.sleep(0.1)
        self.code = process.returncode
        self.output = (folder / "output.txt").read_text()
        self.files = contents(self.study)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("any folder"))


@pytest.fixture
def trials(ran: Ran) -> pd.DataFrame:
    return table(ran.folder, "small", "trials").set_index("trial_id")


@pytest.fixture
def units(ran: Ran) -> pd.DataFrame:
    return table(ran.folder, "small", "units")


@pytest.fixture
def epochs(ran: Ran) -> pd.DataFrame:
    return table(ran.folder, "small", "epochs")


def test_it_says_what_came_out_and_where_it_lies(ran: Ran) -> None:
    assert ran.code == 0, ran.output
    assert "Traceback" not in ran.output
    for architecture in ("dense-32-16", "conv-4"):
        counts, _, answers = ran.output.partition("intrinsic dimension")
        assert len(re.findall(rf"{architecture}\b", counts)) == 1
        assert len(re.findall(rf"^{architecture} on .*: too few trials", answers, re.M)) == len(
            BETAS
        )
    assert f"tables: {ran.study}" in ran.output
    assert f"report: {ran.study}/report.html" in ran.output


def test_its_output_reads_well_in_a_log_file(ran: Ran) -> None:
    assert ran.output.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\x1b]", ran.output)
    assert "8/8 trials done" in ran.output
    assert "diverged" not in ran.output
    assert "failed" not in ran.output


def test_it_can_be_read_while_it_runs(ran: Ran) -> None:
    assert ran.seen[0] == 0
    assert ran.seen == sorted(ran.seen)


def test_the_folder_of_a_study(ran: Ran) -> None:
    assert left_over(ran.study) == []
    folders = {Path(name).parts[0] for name in ran.files}
    tables = {"plan", "trials", "units", "epochs"}
    assert folders == {"study.yaml", *tables, "report.html", ".driver.lock", "driver.json"}
    frozen = yaml.safe_load(ran.files["study.yaml"])
    assert frozen["versions"].keys() == {"vae-study", "torch", "ray", "numerics_version"}
    assert frozen["study"] == "small"
    assert frozen["axes"]["latent_dim"]


@pytest.mark.parametrize("name", ["trials", "units", "epochs"])
def test_tables_have_the_declared_columns(ran: Ran, name: str) -> None:
    assert list(table(ran.folder, "small", name).columns) == SCHEMAS[name].names
    files = [file for file in (ran.study / name).iterdir() if file.name.startswith("pack-")]
    assert files
    for file in files:
        assert pq.read_schema(file).equals(SCHEMAS[name])


def test_every_point_is_there_once(trials: pd.DataFrame) -> None:
    assert trials.index.is_unique
    points = set(trials[["architecture", "latent_dim", "beta"]].itertuples(index=False, name=None))
    assert points == {
        (a, z, b) for a in ("dense-32-16", "conv-4") for z in LATENT_DIMS for b in BETAS
    }
    assert len(trials) == len(points)
    assert set(trials["status"]) == {"completed"}
    assert set(trials["attempt"]) == {1}
    assert set(trials["epochs_trained"]) == {EPOCHS}
    assert trials["error"].isna().all()
    assert trials["node"].notna().all()
    assert trials["dataset_fingerprint"].nunique() == 1


def test_the_number_of_rows(
    trials: pd.DataFrame, units: pd.DataFrame, epochs: pd.DataFrame
) -> None:
    for trial_id, trial in trials.iterrows():
        rows = units[units["trial_id"] == trial_id]
        expected = {
            (epoch, split, unit)
            for epoch in RECORDED
            for split in ("train", "test")
            for unit in range(trial["latent_dim"])
        }
        assert set(rows[["epoch", "split", "unit"]].itertuples(index=False, name=None)) == expected
        assert len(rows) == len(expected)
        assert sorted(epochs.loc[epochs["trial_id"] == trial_id, "epoch"]) == list(
            range(EPOCHS + 1)
        )
    assert set(units["trial_id"]) == set(epochs["trial_id"]) == set(trials.index)
    assert dict(units.groupby("epoch")["step"].unique().explode()) == {0: 0, 2: 8, 4: 16}


def test_figures_follow_from_the_units(trials: pd.DataFrame, units: pd.DataFrame) -> None:
    last = units[(units["split"] == "train") & (units["epoch"] == EPOCHS)]
    per_trial = last.groupby("trial_id")
    assert (last["active"] == (last["mean_variance"] > 0.01)).all()
    active = per_trial["active"].sum()
    assert dict(active) == dict(trials["active_units"])
    by_kl = last.assign(over=last["kl"] > 0.1).groupby("trial_id")["over"].sum()
    assert dict(by_kl) == dict(trials["active_units_kl"])
    law = last.assign(law=last["posterior_variance"] + last["mean_variance"]).groupby("trial_id")[
        "law"
    ]
    assert law.mean().to_dict() == pytest.approx(trials["variance_law_mean"].to_dict(), rel=1e-9)
    assert law.var(ddof=0).to_dict() == pytest.approx(
        trials["variance_law_variance"].to_dict(), rel=1e-9
    )
    assert list(last["second_moment"]) == pytest.approx(
        list(last["mean_variance"] + last["mean"] ** 2), rel=1e-9
    )
    for split in ("train", "test"):
        rows = units[(units["split"] == split) & (units["epoch"] == EPOCHS)]
        kl = rows.groupby("trial_id")["kl"].sum()
        assert kl.to_dict() == pytest.approx(trials[f"{split}_kl"].to_dict(), rel=1e-9)
    at_the_end = units[units["epoch"] == EPOCHS]
    assert at_the_end["reconstruction_gain"].notna().all()


def test_the_elbo_is_the_sum_of_its_parts(trials: pd.DataFrame, epochs: pd.DataFrame) -> None:
    for split in ("train", "test"):
        parts = -(trials[f"{split}_reconstruction"] + trials[f"{split}_kl"])
        assert list(trials[f"{split}_elbo"]) == pytest.approx(list(parts), rel=1e-9)
    minimised = trials["train_reconstruction"] + trials["beta"] * trials["train_kl"]
    assert list(trials["train_objective"]) == pytest.approx(list(minimised), rel=1e-9)
    trained = epochs[epochs["epoch"] > 0]
    parts = -(trained["train_reconstruction"] + trained["train_kl"])
    assert list(trained["train_elbo"]) == pytest.approx(list(parts), rel=1e-9)
    untrained = epochs[epochs["epoch"] == 0]
    assert untrained["train_elbo"].isna().all()
    last = epochs[epochs["epoch"] == EPOCHS].set_index("trial_id")
    assert last["test_elbo"].to_dict() == pytest.approx(trials["test_elbo"].to_dict(), rel=1e-9)
    assert (last["test_elbo"] > untrained.set_index("trial_id")["test_elbo"]).all()  # it learns


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_finished_study_has_nothing_to_do(ran: Ran, command: str) -> None:
    done = vae_study(ran.folder, command, "spec.yaml" if command == "run" else "small")
    assert done.returncode == 0
    assert "all 8 trials are done already" in done.stderr
    assert "dense-32-16" in done.stdout
    assert contents(ran.study) == ran.files


def test_list_and_status(ran: Ran, tmp_path: Path) -> None:
    (row,) = [line for line in succeed(ran.folder, "list").splitlines() if "small" in line]
    assert row.split()[:4] == ["small", "8", "8", "0"]
    status = succeed(ran.folder, "status", "small")
    assert "8 of 8 trials done" in status
    assert "failed: 0" in status
    elsewhere = succeed(tmp_path, "status", "small", "--storage", ran.folder / "studies")
    assert elsewhere == status
    assert "no studies" in succeed(tmp_path, "list")
    assert list(tmp_path.iterdir()) == []


def test_results_as_a_table(ran: Ran, trials: pd.DataFrame) -> None:
    shown = succeed(ran.folder, "results", "small")
    means = trials.groupby(["architecture", "beta", "latent_dim"])["active_units"].first()
    for (architecture, beta), cells in means.groupby(level=["architecture", "beta"]):
        numbers = " +".join(str(count) for count in cells)
        assert re.search(rf"{beta} +{numbers}\b", shown), (architecture, beta, shown)


@pytest.mark.parametrize("name", ["trials", "units", "epochs"])
@pytest.mark.parametrize("format_", ["csv", "json", "parquet"])
def test_results_in_other_formats(ran: Ran, tmp_path: Path, name: str, format_: str) -> None:
    expected = table(ran.folder, "small", name)
    file = tmp_path / f"rows.{format_}"
    command = ["results", "small", "--table", name, "--format", format_]
    command += ["--storage", str(ran.folder / "studies")]
    assert succeed(tmp_path, *command, "-o", str(file)) == ""
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[format_](file)
    assert list(read.columns) == list(expected.columns)
    assert len(read) == len(expected)
    number = {"trials": "train_elbo", "units": "kl", "epochs": "test_elbo"}[name]
    assert math.fsum(read[number]) == pytest.approx(math.fsum(expected[number]), rel=1e-12)
    assert set(read["trial_id"]) == set(expected["trial_id"])
    if format_ != "parquet":
        assert succeed(tmp_path, *command) == file.read_text()


def test_csv_is_one_line_per_row(ran: Ran, trials: pd.DataFrame) -> None:
    text = succeed(ran.folder, "results", "small", "--format", "csv")
    rows = pd.read_csv(io.StringIO(text), index_col="trial_id", dtype={"trial_id": str})
    assert text.endswith("\n")
    for name in ("train_elbo", "variance_law_mean"):
        assert rows[name].to_dict() == pytest.approx(trials[name].to_dict(), rel=1e-15)


def test_columns(tmp_path: Path) -> None:
    everything = succeed(tmp_path, "columns")
    for schema in SCHEMAS.values():
        for name in schema.names:
            assert name in everything
    one = succeed(tmp_path, "columns", "units")
    assert "reconstruction_gain" in one
    assert "samples_per_second" not in one


def test_schema_describes_specs(tmp_path: Path, ran: Ran) -> None:
    schema = json.loads(succeed(tmp_path, "schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(SPEC, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(SPEC | {"axes": {"latent_dim": -3, "architecture": "linear"}}, schema)


def test_presets_and_datasets(tmp_path: Path) -> None:
    presets = succeed(tmp_path, "presets")
    for name in ("quickstart", "mnist-dense"):
        assert name in presets
    env = environment(VAE_STUDY_CACHE=str(tmp_path / "cache"))
    env.pop("VAE_STUDY_DATA", None)
    datasets = succeed(tmp_path, "data", "list", env=env)
    for name in ("mnist", "fashion_mnist", "kmnist", "tiles", "manifold"):
        assert name in datasets
    assert list(tmp_path.iterdir()) == []


def test_a_preset_from_any_folder(tmp_path: Path) -> None:
    """A preset made small, with overrides of every kind; and before that its plan."""
    overrides = {
        "study": "tried",
        "dataset": "{name: tiles, train_images: 300, test_images: 100}",
        "axes.architecture": "[{family: dense, widths: [16]}, linear]",
        "axes.latent_dim": "{range: [1, 3]}",
        "axes.beta": "1e-1",
        "training.epochs": "2",
    }
    arguments = [
        word for field, value in overrides.items() for word in ("--set", f"{field}={value}")
    ]
    planned = succeed(tmp_path, "plan", "quickstart", *arguments)
    assert list(tmp_path.iterdir()) == []
    assert "tried: 12 trials" in planned
    for architecture in ("dense-16", "linear"):
        assert architecture in planned
    done = vae_study(tmp_path, "run", "quickstart", *arguments, "--storage", "kept/here")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    rows = pd.read_parquet(tmp_path / "kept" / "here" / "tried" / "trials")
    assert len(rows) == 12
    assert set(rows["latent_dim"]) == {1, 2, 3}
    assert set(rows["beta"]) == {0.1}
    assert set(rows["epochs"]) == {2}
    assert str(tmp_path / "kept" / "here" / "tried") in done.stdout
