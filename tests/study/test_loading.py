from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search_spaces import BadInput, load_spec, plan_trials
from study import ledger
from study.frozen_spec import freeze
from study.loading import Study, list_studies, load_study
from study.plan_table import write_plan
from study.storage import Folder, StorageError
from study.tables import EPOCHS, TRIALS, UNITS

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
        write_plan(folder, plan_trials(spec), PLANNED)
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
