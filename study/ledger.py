"""The commit protocol: which trials of a study are done, and how their rows come to storage.

A pack's rows lie in `<table>/<pack_id>.parquet`, one file per table, and `trials` is written
last: its row is the commit mark. A failed trial has no rows elsewhere and a file of its own,
`trials/failed-<trial_id>.parquet`, so that a retry can put its row aside alone. Files of `trials`
are added and replaced but never deleted, so `pandas.read_parquet` on the folder works at any
moment.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from study.storage import Folder
from study.tables import DONE, FURTHER_TABLES, KEYS, SCHEMAS, TRIALS, to_table

__all__ = [
    "PARQUET",
    "clean",
    "commit",
    "committed",
    "create_tables",
    "forget_failed",
    "read_rows",
    "read_trials",
    "scan_rows",
    "write_table",
]

PARQUET: dict[str, Any] = {"compression": "lz4", "use_dictionary": False}
"""How tables are written: options of `pyarrow.parquet.write_table`.

Files are small and many, so that what counts is the cost of opening a column. 1,570 files of 64
trials each are read twice as fast as with zstd, and are smaller: measured values hardly repeat, so
their dictionaries were as long as the values themselves.
"""

_PACK_TABLES = ("units", "epochs", *FURTHER_TABLES)
_ALWAYS = ("units", "epochs")
_EMPTY = "empty"
_FAILED = "failed-"
_COMMIT_COLUMNS = ["trial_id", "status", "attempt", "pack_id"]
_JOINED = 1_000  # files
_PACK_ID = re.compile(rf"(?!{_EMPTY}$|{_FAILED})[A-Za-z0-9][A-Za-z0-9_.-]*")


def create_tables(folder: Folder, further: Collection[str] = ()) -> None:
    """Write a file without rows to each table that has none, so that they read from the start.

    Args:
        folder: The study's folder.
        further: Those of `FURTHER_TABLES` that the study asks for.
    """
    for name in (*_ALWAYS, *further, "trials"):
        if not folder.exists(_file(name, _EMPTY)):
            write_table(folder, _file(name, _EMPTY), SCHEMAS[name].empty_table())


def commit(
    folder: Folder,
    pack_id: str,
    trials: pd.DataFrame,
    units: pd.DataFrame,
    epochs: pd.DataFrame,
    further: Mapping[str, pd.DataFrame] | None = None,
) -> None:
    """Put a pack's rows on storage; the same rows again give the same files again.

    Only one process may commit to a study at a time; a `DriverFolder` sees to that.

    Args:
        folder: The study's folder.
        pack_id: The pack, named after its members.
        trials: Rows of `trials`, each with this pack_id.
        units: Rows of `units` of those trials that did not fail.
        epochs: Rows of `epochs` of those trials that did not fail.
        further: Rows of `FURTHER_TABLES` by name, of those trials that did not fail; a table
            without rows gets no file.

    Raises:
        ValueError: The rows do not fit the schemas, or do not belong to these trials.
        StorageError: Storage failed, or another driver has started on the study; the pack counts
            as not committed.
    """
    if not _PACK_ID.fullmatch(pack_id):
        raise ValueError(f"{pack_id!r} cannot name a pack's files")
    rows = _ordered("trials", trials)
    if rows["pack_id"].unique().to_pylist() != [pack_id]:
        raise ValueError(f"trials.pack_id: not {pack_id!r} throughout")
    is_failed = pc.equal(rows["status"], "failed")
    done, failed = rows.filter(pc.invert(is_failed)), rows.filter(is_failed)
    frames = {"units": units, "epochs": epochs}
    for name, frame in (further or {}).items():
        if name not in FURTHER_TABLES:
            raise ValueError(f"{name}: not a table of packs; these are {', '.join(_PACK_TABLES)}")
        if len(frame):
            frames[name] = frame
    tables = {name: _ordered(name, frame) for name, frame in frames.items()}
    for name, table in tables.items():
        _check_members(name, table, done["trial_id"])
    if len(done):
        for name, table in tables.items():
            write_table(folder, _file(name, pack_id), table)
        write_table(folder, _file("trials", pack_id), done)
    for row in range(len(failed)):
        one = failed.slice(row, 1).combine_chunks()
        write_table(folder, f"trials/{_failed_file(one['trial_id'][0].as_py())}", one)


def committed(folder: Folder) -> pd.DataFrame:
    """Return trial_id, status, attempt and pack_id of every committed trial, once each.

    A trial whose units or epochs are missing does not count, and is run again.
    """
    rows = _trial_rows(folder, _COMMIT_COLUMNS)
    return rows[_counts(rows, _packs(folder))].reset_index(drop=True)


def read_trials(folder: Folder, columns: list[str] | None = None) -> pd.DataFrame:
    """Return the `trials` row of every committed trial, once each."""
    rows = _trial_rows(folder, columns or TRIALS.names)
    return rows[_counts(rows)].reset_index(drop=True)


def forget_failed(folder: Folder, trial_ids: Collection[str]) -> None:
    """Take the failed rows of these trials out of `trials`, before they are run again.

    Trials without a failed row are left alone. Killed in between, they are merely not committed.
    """
    wanted = {_failed_file(trial_id) for trial_id in trial_ids}
    for name in wanted.intersection(folder.files("trials", ".parquet")):
        # Without rows, not deleted: deleting it would break whoever is reading the folder.
        write_table(folder, f"trials/{name}", TRIALS.empty_table())


def clean(folder: Folder) -> None:
    """Remove what interrupted commits left: temporary files, rows without a `trials` row.

    A trial committed more than once keeps one row: a finished one rather than a failed one, then
    the highest attempt, then the first pack_id. The other row goes, and its units and epochs
    before it, so that an interrupted clean is taken up by the next. So does a finished row whose
    units or epochs are missing (`study.driver_folder` tells how that comes about).
    """
    folder.remove_temporaries()
    rows = _trial_rows(folder, _COMMIT_COLUMNS)
    counts = _counts(rows, _packs(folder))
    surplus = rows[~counts]
    forget_failed(folder, set(surplus.loc[surplus["status"] == "failed", "trial_id"]))
    for pack_id, lost in surplus[surplus["status"] != "failed"].groupby("pack_id"):
        for name in (*_PACK_TABLES, "trials"):
            _drop_rows(folder, _file(name, str(pack_id)), set(lost["trial_id"]))
    kept = {_EMPTY, *rows.loc[counts & (rows["status"] != "failed"), "pack_id"]}
    # Listed against the order in which a commit writes, deleted in it: of a pack that another
    # driver commits meanwhile, units would go before samples, and their absence is noticed.
    orphans = {name: folder.files(name, ".parquet") for name in reversed(_PACK_TABLES)}
    for name in _PACK_TABLES:
        for file in orphans[name]:
            if _stem(file) not in kept:
                folder.delete(f"{name}/{file}")


def read_rows(
    folder: Folder, name: str, files: Collection[str], columns: list[str] | None = None
) -> pa.Table:
    """Read the rows of some files of a table, with the file of each row as `__filename`."""
    wanted = [*(columns or SCHEMAS[name].names), "__filename"]
    # Parquet's description of a file takes 200 kB, and no file is read twice.
    options = {"columns": wanted, "cache_metadata": False}
    return folder.attempt("read", name, lambda: _dataset(folder, name, files).to_table(**options))


def scan_rows(
    folder: Folder,
    name: str,
    pack_ids: Collection[str],
    columns: list[str] | None = None,
    where: pc.Expression | None = None,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the rows of some packs a batch at a time, each batch with its pack_id.

    Unlike `read_rows` it spells out no file name per row, which takes longer than reading the row.

    Args:
        folder: The study's folder.
        name: A table of packs: units or epochs.
        pack_ids: Which packs.
        columns: Which columns; all by default.
        where: Which rows, as an expression on any columns; all by default.

    Raises:
        StorageError: A file is missing or cannot be read.
    """
    with folder.errors("read", name):
        dataset = _dataset(folder, name, [f"{pack_id}.parquet" for pack_id in pack_ids])
        scanner = dataset.scanner(columns=columns, filter=where, cache_metadata=False)
        for batch in scanner.scan_batches():
            yield _stem(batch.fragment.path), batch.record_batch


def write_table(folder: Folder, relative: str, table: pa.Table) -> None:
    """Write a Parquet file, whole; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **PARQUET)
    folder.write_whole(relative, sink.getvalue().to_pybytes())


def _dataset(folder: Folder, name: str, files: Collection[str]) -> ds.Dataset:
    paths = [folder.full(f"{name}/{file}") for file in files]
    return ds.dataset(paths, schema=SCHEMAS[name], format="parquet", filesystem=folder.filesystem)


def _trial_rows(folder: Folder, columns: list[str]) -> pd.DataFrame:
    files = folder.files("trials", ".parquet")
    parts = []
    for start in range(0, max(1, len(files)), _JOINED):
        rows = read_rows(folder, "trials", files[start : start + _JOINED], columns)
        # Each column of each file is an array of its own, a kilobyte however few its rows.
        parts.append(rows.select(columns).combine_chunks())
    frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return frame


def _packs(folder: Folder) -> set[str]:
    """Return the packs that have rows in each table that every pack has."""
    files = [set(folder.files(name, ".parquet")) for name in _ALWAYS]
    return {_stem(file) for file in set.intersection(*files)}


def _counts(rows: pd.DataFrame, packs: Collection[str] | None = None) -> "pd.Series[bool]":
    """Whether a row is the one that counts for its trial: see `clean`.

    Args:
        rows: The columns of a commit, or more.
        packs: Those whose units and epochs are there; None takes that for granted.
    """
    done = rows["status"].isin(DONE)
    sound = ~done | (packs is None or rows["pack_id"].isin(packs))
    rank = rows.assign(done=done)[sound].sort_values(
        ["done", "attempt", "pack_id"], ascending=[False, False, True], kind="stable"
    )
    return (~rank.duplicated("trial_id")).reindex(rows.index, fill_value=False)


def _drop_rows(folder: Folder, relative: str, trial_ids: set[str]) -> None:
    if not folder.exists(relative):
        return
    path, filesystem = folder.full(relative), folder.filesystem
    table = folder.attempt("read", relative, lambda: pq.read_table(path, filesystem=filesystem))
    keep = pc.invert(pc.is_in(table["trial_id"], pa.array(trial_ids, pa.string())))
    write_table(folder, relative, table.filter(keep))


def _ordered(name: str, frame: pd.DataFrame) -> pa.Table:
    """Convert rows, sorted by the table's key so that the order of lanes leaves no trace."""
    table = to_table(name, frame)
    twice = table.select(KEYS[name]).to_pandas().duplicated()
    if twice.any():
        raise ValueError(f"{name}: two rows for {table.slice(int(twice.argmax()), 1).to_pylist()}")
    return table.sort_by([(column, "ascending") for column in KEYS[name]])


def _check_members(name: str, table: pa.Table, done: pa.ChunkedArray) -> None:
    strangers = set(table["trial_id"].to_pylist()) - set(done.to_pylist())
    if strangers:
        raise ValueError(f"{name}.trial_id: {min(strangers)!r} has no finished row in `trials`")


def _file(table: str, stem: str) -> str:
    return f"{table}/{stem}.parquet"


def _failed_file(trial_id: str) -> str:
    return f"{_FAILED}{trial_id}.parquet"


def _stem(file: str) -> str:
    return PurePosixPath(file).stem
