from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.final_units import final_units
from search_spaces import BadInput, load_spec, plan_trials
from study import ledger
from study.frozen_spec import freeze
from study.loading import Study, list_studies, load_study, trials_to_propose
from study.plan_table import write_plan
from study.planned_trial import PlannedTrial
from study.storage import Folder, StorageError
from study.tables import EPOCHS, FURTHER_TABLES, SCHEMAS, TRIALS, UNITS
from tests.analysis.sampled_tables import samples_of, write_study
from tests.analysis.simulated_study import write_simulated_study
from tests.study.test_ledger import encodings

MakePack = Callable[..., dict[str, Any]]

PLANNED = ["d", "b", "c", "a"]
VERSIONS: dict[str, str | int] = {"vae-study": "0.1.0", "numerics_version": 1}


def start(folder: Folder, planned: bool = True) -> None:
    """Put a study of four planned trials on storage, with nothing committed."""
    spec = load_spec(
        {
            "study": folder.name,
            "dataset": "mnist",
            "axes": {"architecture": "linear", "latent_dim": [1, 2, 3, 4]},
        }
    )
    freeze(folder, spec, VERSIONS)
    if planned:
        trials = zip(plan_trials(spec), PLANNED, strict=True)
        write_plan(folder, [PlannedTrial(trial, i, "f" * 16, spec.record) for trial, i in trials])
    ledger.create_tables(folder)


def test_a_study_before_its_first_commit(folder: Folder) -> None:
    start(folder)
    study = load_study(folder)
    assert study.name == folder.name == "test"
    assert study.spec.axes.latent_dim.values() == [1, 2, 3, 4]
    assert study.versions == VERSIONS
    for frame, schema in ((study.trials, TRIALS), (study.units, UNITS), (study.epochs, EPOCHS)):
        assert frame.empty
        assert list(frame.columns) == schema.names


def test_tables_before_even_they_are_created(folder: Folder) -> None:
    start(folder)
    for table in ("trials", "units", "epochs"):
        folder.delete(f"{table}/empty.parquet")
    assert list(load_study(folder).trials.columns) == TRIALS.names
    assert list(load_study(folder).units.columns) == UNITS.names


def test_rows_come_in_a_defined_order(folder: Folder, make_pack: MakePack) -> None:
    start(folder)
    ledger.commit(folder, **make_pack("p", ["a", "b"]))
    ledger.commit(folder, **make_pack("o", ["unplanned", "d"], failed=["c"]))
    study = load_study(folder)
    assert study.trials["trial_id"].tolist() == [*PLANNED, "unplanned"]
    assert study.trials.index.tolist() == [0, 1, 2, 3, 4]
    keys = ["trial_id", "epoch", "split", "unit"]
    assert study.units[keys].to_numpy().tolist() == [
        [trial_id, 2, split, unit]
        for trial_id in ("a", "b", "d", "unplanned")
        for split in ("test", "train")
        for unit in (0, 1)
    ]
    assert study.epochs[["trial_id", "epoch"]].to_numpy().tolist() == [
        [trial_id, epoch] for trial_id in ("a", "b", "d", "unplanned") for epoch in (0, 1, 2)
    ]
    for frame, schema in ((study.trials, TRIALS), (study.units, UNITS), (study.epochs, EPOCHS)):
        assert list(frame.columns) == schema.names
    assert study.trials is study.trials
    assert study.units["active"].dtype == bool


def test_without_a_plan_trials_are_sorted_by_id(folder: Folder, make_pack: MakePack) -> None:
    start(folder, planned=False)
    ledger.commit(folder, **make_pack("p", ["b", "d"]))
    ledger.commit(folder, **make_pack("q", ["c", "a"]))
    assert load_study(folder).trials["trial_id"].tolist() == list("abcd")


def test_uncommitted_rows_are_not_shown(folder: Folder, make_pack: MakePack) -> None:
    start(folder)
    ledger.commit(folder, **make_pack("p", ["a", "b"]))
    ledger.commit(folder, **make_pack("q", ["c", "d"]))
    folder.delete("trials/q.parquet")  # as if killed before the last file
    study = load_study(folder)
    for frame in (study.trials, study.units, study.epochs):
        assert set(frame["trial_id"]) == {"a", "b"}


@pytest.mark.parametrize(("attempts", "winner"), [((1, 1), "p"), ((1, 2), "q")])
def test_a_doubled_trial_is_shown_once_with_its_own_units(
    folder: Folder, make_pack: MakePack, attempts: tuple[int, int], winner: str
) -> None:
    start(folder)
    for pack_id, trial_ids, attempt in (("p", ["a", "b"], attempts[0]), ("q", ["b"], attempts[1])):
        pack = make_pack(pack_id, trial_ids, attempt=attempt)
        pack["units"]["kl"] = float(ord(pack_id))
        pack["epochs"]["seconds"] = float(ord(pack_id))
        ledger.commit(folder, **pack)
    study = load_study(folder)
    before = [study.trials, study.units, study.epochs]
    assert study.trials.set_index("trial_id").loc["b", "pack_id"] == winner
    assert set(study.units.loc[study.units["trial_id"] == "b", "kl"]) == {ord(winner)}
    assert len(study.units) == 8
    ledger.clean(folder)
    study = load_study(folder)
    for frame, cleaned in zip(before, [study.trials, study.units, study.epochs], strict=True):
        pd.testing.assert_frame_equal(frame, cleaned)


FINAL = [name for name in UNITS.names if name != "study"]


def commit(folder: Folder, pack: dict[str, Any], epochs: dict[tuple[str, str], list[int]]) -> None:
    """Commit a pack whose units were recorded at these epochs, by trial and split."""
    rng = np.random.default_rng(len(epochs))
    rows = [
        pack["units"]
        .query("trial_id == @trial_id and split == @split")
        .assign(epoch=epoch, step=50 * epoch, active=epoch % 2 == 0)
        for (trial_id, split), recorded in epochs.items()
        for epoch in recorded
    ]
    units = pd.concat(rows, ignore_index=True)
    units["kl"] = rng.random(len(units))
    units.loc[units.index % 3 == 0, "mean_variance"] = None
    ledger.commit(folder, **pack | {"units": units})


def check_final_units(study: Study) -> pd.DataFrame:
    """Hold final_units to what analysis makes of all units."""
    expected = final_units(study.units)[FINAL].reset_index(drop=True)
    pd.testing.assert_frame_equal(study.final_units, expected)
    return expected


def test_final_units_are_each_trial_s_last_on_training_images(
    folder: Folder, make_pack: MakePack
) -> None:
    start(folder)
    recorded = {
        ("a", "train"): [0, 5, 20],
        ("a", "test"): [0, 5, 20],
        ("b", "train"): [0, 7],
        ("b", "test"): [0, 7, 9],  # no such thing is written; the split comes first all the same
    }
    commit(folder, make_pack("p", ["a", "b"], failed=["c"], status="diverged"), recorded)
    commit(folder, make_pack("o", ["d"]), {("d", "train"): [3], ("d", "test"): [3]})
    sorted_rows = ledger.read_rows(folder, "units", ["p.parquet"]).select(UNITS.names)
    backwards = sorted_rows.take(list(range(len(sorted_rows)))[::-1])
    ledger.write_table(folder, "units/p.parquet", backwards)
    study = load_study(folder)
    units = check_final_units(study)
    assert units[["trial_id", "epoch", "unit"]].to_numpy().tolist() == [
        [trial_id, epoch, unit]
        for trial_id, epoch in (("a", 20), ("b", 7), ("d", 3))
        for unit in (0, 1)
    ]
    assert set(units["split"]) == {"train"}
    assert study.final_units is study.final_units


@pytest.mark.parametrize(("attempts", "last"), [((1, 1), 4), ((1, 2), 2), ((2, 1), 4)])
def test_final_units_are_those_of_the_pack_that_counts(
    folder: Folder, make_pack: MakePack, attempts: tuple[int, int], last: int
) -> None:
    """Also where another pack holds the trial at a later epoch, or was never committed."""
    start(folder)
    both = {(trial_id, split): [1] for trial_id in "ab" for split in ("train", "test")}
    of_b = {("b", "train"): [2], ("b", "test"): [2]}
    p, q = (make_pack(n, m, attempt=a) for n, m, a in zip("pq", ("ab", "b"), attempts, strict=True))
    commit(folder, p, both | {("b", "train"): [0, 4]})
    commit(folder, q, of_b)
    commit(folder, make_pack("r", ["c"]), {("c", "train"): [9], ("c", "test"): [9]})
    folder.delete("trials/r.parquet")
    units = check_final_units(load_study(folder))
    assert units["trial_id"].tolist() == ["a", "a", "b", "b"]
    assert units["epoch"].tolist() == [1, 1, last, last]


def test_final_units_where_a_trial_fills_many_batches(tmp_path: Path, make_pack: MakePack) -> None:
    """pyarrow hands out 131,072 rows at a time; the trial after it starts in the third batch."""
    folder = Folder.at(tmp_path / "test")
    start(folder)
    pack = make_pack("p", ["a", "b"])
    repeats = np.repeat(np.arange(4), [70_000, 70_000, 1, 1])  # units of "a", then of "b"
    train = pack["units"].query("split == 'train'").reset_index(drop=True).take(repeats)
    train["epoch"] = [*range(70_000), *range(70_000), 3, 3]
    train["kl"] = train["epoch"] + 0.5
    ledger.commit(folder, **pack | {"units": train})
    units = check_final_units(load_study(folder))
    assert units["epoch"].tolist() == [69_999, 69_999, 3, 3]
    assert units["kl"].tolist() == [69_999.5, 69_999.5, 3.5, 3.5]


def test_final_units_of_a_study_without_any(folder: Folder, make_pack: MakePack) -> None:
    start(folder)
    assert list(check_final_units(load_study(folder)).columns) == FINAL
    ledger.commit(folder, **make_pack("p", [], failed=["a", "b"]))
    assert check_final_units(load_study(folder)).empty


def test_histories_are_the_rows_of_the_trials_asked_for(
    folder: Folder, make_pack: MakePack
) -> None:
    start(folder)
    epochs = {(trial_id, split): [0, 2] for trial_id in "ab" for split in ("train", "test")}
    commit(folder, make_pack("p", ["a", "b"], failed=["c"]), epochs)
    of_b = {("b", split): [1, 2] for split in ("train", "test")}
    commit(folder, make_pack("q", ["b"], attempt=2), of_b)
    ledger.commit(folder, **make_pack("r", ["d"]))
    whole = load_study(folder)
    for asked in (["a"], {"b"}, ("a", "c", "d"), pd.Series(["d", "b", "b"]), ["c", "none"], []):
        study = load_study(folder)
        for table in ("units", "epochs"):
            rows = getattr(whole, table)
            expected = rows[rows["trial_id"].isin(list(asked))].reset_index(drop=True)
            pd.testing.assert_frame_equal(getattr(study, f"{table}_of")(asked), expected)
    assert whole.units_of(["b"])["epoch"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]


def test_a_history_reads_no_other_pack(folder: Folder, make_pack: MakePack) -> None:
    start(folder)
    for pack_id, trial_ids in (("p", "a"), ("q", "b")):
        ledger.commit(folder, **make_pack(pack_id, list(trial_ids)))
    folder.delete("units/q.parquet")
    folder.delete("epochs/q.parquet")
    study = load_study(folder)
    assert len(study.units_of(["a"])) == 4
    assert len(study.epochs_of(["a"])) == 3
    for read in (study.units_of, study.epochs_of):
        with pytest.raises(StorageError, match=r"cannot read .*(units|epochs)"):
            read(["a", "b"])
    with pytest.raises(StorageError, match=r"cannot read .*units"):
        _ = study.final_units


def test_what_is_read_can_be_written_to(tmp_path: Path) -> None:
    """Users add to their frames in place; those that share memory with Arrow are read-only."""
    study = load_study(write_simulated_study(tmp_path / "test", 40))
    ids = study.trials["trial_id"].head(9)
    frames = [study.trials, study.units, study.epochs, study.final_units]
    for frame in [*frames, study.units_of(ids), study.epochs_of(ids)]:
        for column in frame.columns:
            frame.iloc[0, frame.columns.get_loc(column)] = frame[column].iloc[-1]
            values = frame[column].to_numpy()
            assert values[0] == values[-1] or (pd.isna(values[0]) and pd.isna(values[-1]))


def test_a_simulated_study_of_many_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Diverged, failed and completed trials; one epoch or several; plain pandas as the oracle."""
    monkeypatch.setattr(ledger, "_JOINED", 7)  # files of `trials` read at a time
    folder = write_simulated_study(tmp_path / "test", 400, seed=1, pack_size=8)
    study = load_study(folder)
    units = check_final_units(study)
    files = pd.read_parquet(folder.full("units"))
    train = files[files["split"] == "train"]
    last = train.groupby("trial_id")["epoch"].transform("max")
    plain = train[train["epoch"] == last].sort_values(["trial_id", "unit"], ignore_index=True)
    pd.testing.assert_frame_equal(units, plain[FINAL])
    files = pd.read_parquet(folder.full("trials"))
    plain = files.set_index("trial_id").loc[study.trials["trial_id"]].reset_index()
    pd.testing.assert_frame_equal(study.trials, plain[TRIALS.names])
    assert len(plain) == 400
    assert set(plain["status"]) == {"completed", "diverged", "failed"}
    assert units["epoch"].nunique() > 1
    ids = study.trials["trial_id"].sample(50, random_state=0)
    for table in ("units", "epochs"):
        rows = getattr(study, table)
        expected = rows[rows["trial_id"].isin(ids)].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(load_study(folder), f"{table}_of")(ids), expected)


def test_lost_units_are_an_error_not_an_empty_table(folder: Folder, make_pack: MakePack) -> None:
    start(folder)
    ledger.commit(folder, **make_pack("p", ["a"]))
    folder.delete("units/p.parquet")
    study = load_study(folder)
    assert len(study.trials) == 1
    with pytest.raises(StorageError, match=r"cannot read .*units"):
        _ = study.units


def test_a_damaged_table_names_the_place(tmp_path: Path, make_pack: MakePack) -> None:
    folder = Folder.at(tmp_path / "test")
    start(folder)
    ledger.commit(folder, **make_pack("p", ["a"]))
    folder.write_whole("trials/p.parquet", b"not parquet")
    with pytest.raises(StorageError, match=r"cannot read .*test/trials"):
        _ = load_study(folder).trials


def test_what_is_no_study_is_bad_input(folder: Folder) -> None:
    with pytest.raises(BadInput, match=r"is not a study \(there are none\)"):
        load_study(folder)
    for name in ("mnist-dense", "quickstart"):
        start(folder.parent.child(name))
    folder.parent.write_whole("notes/text.txt", b"x")
    with pytest.raises(BadInput, match=r"is not a study \(did you mean 'quickstart'\?\)"):
        load_study(folder.parent.child("quikstart"))
    with pytest.raises(BadInput, match=r"choose from 'mnist-dense', 'quickstart'"):
        load_study(folder.parent.child("notes"))


def test_by_path_and_by_text(
    tmp_path: Path, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(Folder.at(tmp_path / "studies" / "here"))
    monkeypatch.chdir(tmp_path)
    studies = [load_study("studies/here"), load_study(tmp_path / "studies/here/")]
    studies.append(load_study(f"file://{tmp_path}/studies/here"))
    for study in studies:
        assert isinstance(study, Study)
        assert study.name == "here"
    with pytest.raises(BadInput, match="did you mean 'here'"):
        load_study("studies/her")


def test_studies_are_listed(folder: Folder, make_pack: MakePack) -> None:
    storage = folder.parent
    columns = ["study", "planned", "done", "failed", "created", "updated"]
    assert list(list_studies(storage).columns) == columns
    assert list_studies(storage).empty
    start(storage.child("b"))
    start(storage.child("a"))
    ledger.commit(storage.child("b"), **make_pack("p", ["a"], failed=["c", "d"]))
    ledger.commit(storage.child("b"), **make_pack("q", ["b"], status="diverged"))
    storage.write_whole("not-a-study/file", b"x")
    studies = list_studies(storage)
    assert studies[columns[:4]].to_numpy().tolist() == [["a", 4, 0, 0], ["b", 4, 2, 2]]
    if folder.local:
        age = pd.Timestamp.now("UTC") - studies["created"]
        assert age.between(pd.Timedelta(-1, "s"), pd.Timedelta(60, "s")).all()
        assert (studies["updated"] >= studies["created"]).all()


def test_further_tables_of_committed_trials(folder: Folder, make_pack: MakePack) -> None:
    """Sorted, from the packs that have any, and none of a pack that was not committed."""
    start(folder)
    empty = load_study(folder)
    for name in FURTHER_TABLES:
        assert list(getattr(empty, name).columns) == SCHEMAS[name].names
    ledger.commit(
        folder, **make_pack("p", ["b", "a"]), further={"encodings": encodings(["b", "a"])}
    )
    ledger.commit(folder, **make_pack("q", ["c"]))
    ledger.commit(folder, **make_pack("r", ["d"]), further={"encodings": encodings(["d"])})
    folder.delete("trials/r.parquet")
    study = load_study(folder)
    assert study.encodings["trial_id"].tolist() == ["a", "b"]
    assert study.encodings_of(["b", "c"])["trial_id"].tolist() == ["b"]
    assert study.samples.empty
    assert study.samples_of(["a"]).empty
    assert study.trials_with("encodings") == ["b", "a"]  # as planned
    assert study.trials_with("samples", kind="grid") == empty.trials_with("encodings") == []
    assert study.encodings["mean"].dtype == np.float32


def test_samples_without_their_pixels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 2, 2))
    samples = pd.concat([samples_of(trial_id, "generated", images) for trial_id in ("a", "b")])
    rows = [{"trial_id": i, "latent_dim": 2, "active_units": 1} for i in ("a", "b")]
    study = write_study(tmp_path / "sampled", rows, UNITS.empty_table().to_pandas(), samples)
    assert len(study.samples) == 6
    some = study.samples_of(["b"], ["shape", "largest_difference"])
    keys = ["trial_id", "kind", "image"]
    assert list(some.columns) == [*keys, "shape", "largest_difference"]
    pd.testing.assert_frame_equal(some, study.samples_of(["b"])[some.columns])
    assert list(study.samples_of(["a"], []).columns) == keys
    assert list(study.samples_of([], ["shape"]).columns) == [*keys, "shape"]


def test_how_many_trials_a_search_may_propose() -> None:
    axes = {"architecture": "linear", "latent_dim": [2, 4], "seed": [0, 1], "data_seed": [0, 1, 2]}
    search = {"name": "optuna", "points": 5, "objectives": {"maximise": "test_elbo"}}
    spec: dict[str, Any] = {"study": "s", "dataset": "tiles", "strategy": search}
    assert trials_to_propose(load_spec(spec | {"axes": axes})) == 5 * 2 * 3
    assert trials_to_propose(load_spec(spec | {"parts": {"a": {"axes": axes}}})) is None
    assert trials_to_propose(load_spec(spec | {"axes": axes, "strategy": "grid"})) is None
