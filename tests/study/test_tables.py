import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import IdxDataset, Trial, named_architecture
from study.tables import (
    DATASETS,
    EPOCHS,
    HYPERPARAMETERS,
    KEYS,
    SCHEMAS,
    TRIALS,
    UNITS,
    column_dictionary,
    to_table,
)

MakePack = Callable[..., dict[str, Any]]

# The lists of the design, in its words: whatever reads a study relies on these names.
DESIGNED = {
    "trials": """study trial_id pack_id status error dataset architecture family depth widths
        latent_dim beta objective decoder decoder_variance learning_rate batch_size epochs
        initialisation data_seed seed active_units active_units_kl train_objective train_elbo
        train_reconstruction train_kl train_mse test_elbo test_reconstruction test_kl test_mse
        variance_law_mean variance_law_variance parameters attempt node started_at seconds device
        samples_per_second version numerics_version""",
    "units": """study trial_id epoch step split unit mean mean_variance posterior_variance
        second_moment kl reconstruction_gain active""",
    "epochs": """study trial_id epoch train_elbo train_reconstruction train_kl test_elbo
        active_units variance_law_mean seconds""",
    "datasets": """dataset_fingerprint dataset shape values_per_image train_images test_images mean
        total_variance quantity method variant component value note sample_size distinct_images
        sample_seed parameters library version""",
}


@pytest.mark.parametrize("name", DESIGNED)
def test_columns_are_those_of_the_design_in_its_order(name: str) -> None:
    designed = DESIGNED[name].split()
    assert [column for column in SCHEMAS[name].names if column in designed] == designed


def test_units_and_epochs_have_no_other_columns() -> None:
    assert UNITS.names == DESIGNED["units"].split()
    assert EPOCHS.names == DESIGNED["epochs"].split()


def test_hyperparameters_are_those_of_a_trial() -> None:
    trial = Trial(
        dataset=IdxDataset(name="mnist"),
        architecture=named_architecture("paper-dense-mnist"),
        latent_dim=16,
    )
    assert tuple(trial.hyperparameters()) == HYPERPARAMETERS


def test_datasets_join_to_trials() -> None:
    assert DATASETS.names == DESIGNED["datasets"].split()
    assert DATASETS.field("dataset_fingerprint").type == TRIALS.field("dataset_fingerprint").type


def test_every_column_is_described() -> None:
    dictionary = column_dictionary()
    assert list(dictionary) == ["table", "column", "type", "nullable", "description"]
    assert len(dictionary) == sum(len(schema) for schema in SCHEMAS.values())
    assert dictionary["description"].str.len().min() > 10
    described = dictionary.set_index(["table", "column"])["description"]
    for column in ("train_elbo", "test_kl", "train_objective"):
        assert "nats per image" in described["trials", column]
    assert "equation 6" in described["units", "kl"]
    assert "Burda et al. 2015" in described["units", "active"]
    assert "divided by N" in described["datasets", "quantity"]
    assert "divided by N" in described["trials", "variance_law_mean"]


def test_tables_and_the_command_line_import_neither_torch_nor_ray() -> None:
    code = (
        "import sys, study.loading, study.commands.command_line\n"
        "assert not {'torch', 'ray', 'optuna', 'altair'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_conversion_keeps_values_and_drops_the_index(make_pack: MakePack) -> None:
    frame = make_pack("pack", ["a", "b"], failed=["c"])["trials"]
    shuffled = frame[frame.columns[::-1]].set_index(pd.Index([7, 7, 9]))
    table = to_table("trials", shuffled)
    assert table.schema.equals(TRIALS, check_metadata=True)
    assert table["seed"].to_pylist() == [2**63 - 1] * 3
    assert table["active_units"].to_pylist() == [1, 1, None]
    assert table["error"].to_pylist() == [None, None, "out of memory"]
    # Milliseconds are kept, what a clock ticks below them is not.
    assert table["started_at"][0].as_py() == pd.Timestamp("2026-01-02T03:04:05.678Z")


@pytest.mark.parametrize("dtype", ["str", "object", "string"])
def test_strings_of_every_pandas_dtype(make_pack: MakePack, dtype: Any) -> None:
    frame = make_pack("pack", ["a"], failed=["b"])["trials"]
    for column in ("trial_id", "error", "widths"):
        frame[column] = frame[column].astype(dtype)
    assert to_table("trials", frame)["error"].to_pylist() == [None, "out of memory"]


def test_conversion_of_its_own_output(make_pack: MakePack) -> None:
    pack = make_pack("pack", ["a"], failed=["b"])
    for name in ("trials", "units", "epochs"):
        table = to_table(name, pack[name])
        assert to_table(name, table.to_pandas()).equals(table)
        assert to_table(name, SCHEMAS[name].empty_table().to_pandas()).num_rows == 0


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("trials", "trial_id", 17),
        ("trials", "trial_id", b"17"),
        ("trials", "trial_id", None),
        ("trials", "status", "done"),
        ("trials", "latent_dim", 2.0),
        ("trials", "latent_dim", True),
        ("trials", "latent_dim", "2"),
        ("trials", "seed", 2**63),
        ("trials", "beta", "1"),
        ("trials", "beta", float("nan")),
        ("trials", "beta", True),
        ("trials", "active_units", 1.5),
        ("trials", "active_units", float("inf")),
        ("trials", "active_units", None),
        ("trials", "test_elbo", float("nan")),
        ("trials", "started_at", "2026-01-01"),
        ("trials", "started_at", pd.Timestamp("2026-01-01")),
        ("units", "split", "validation"),
        ("units", "active", 1),
        ("units", "active", None),
        ("units", "unit", None),
        ("units", "kl", 1 + 2j),
        ("epochs", "test_elbo", [1.0]),
    ],
)
def test_wrong_value_names_the_column(
    make_pack: MakePack, table: str, column: str, value: object
) -> None:
    frame = make_pack("pack", ["a"])[table]
    frame[column] = pd.Series([value] * len(frame))
    with pytest.raises(ValueError, match=re.escape(f"{table}.{column}:")):
        to_table(table, frame)


def test_mixed_types_in_one_column_are_refused(make_pack: MakePack) -> None:
    frame = make_pack("pack", ["a", "b"])["trials"]
    frame["widths"] = pd.Series(["256", 256], dtype=object)
    with pytest.raises(ValueError, match=r"trials\.widths"):
        to_table("trials", frame)


def test_missing_unknown_and_doubled_columns_are_refused(make_pack: MakePack) -> None:
    frame = make_pack("pack", ["a"])["epochs"]
    with pytest.raises(ValueError, match=r"epochs\.test_elbo: the column is missing"):
        to_table("epochs", frame.drop(columns="test_elbo"))
    with pytest.raises(ValueError, match=r"epochs\.sigma: no such column"):
        to_table("epochs", frame.assign(sigma=1.0))
    with pytest.raises(ValueError, match=r"epochs\.seconds: the column is there twice"):
        to_table("epochs", pd.concat([frame, frame[["seconds"]]], axis=1))


def test_a_failed_trial_says_why_and_claims_no_measurement(make_pack: MakePack) -> None:
    frame = make_pack("pack", [], failed=["a"])["trials"]
    with pytest.raises(ValueError, match=r"trials\.error"):
        to_table("trials", frame.assign(error=None))
    with pytest.raises(ValueError, match=r"trials\.test_mse: filled"):
        to_table("trials", frame.assign(test_mse=1.0))


def test_a_diverged_trial_may_lack_measurements(make_pack: MakePack) -> None:
    frame = make_pack("pack", ["a"], status="diverged")["trials"]
    table = to_table("trials", frame.assign(test_elbo=float("nan"), active_units=None))
    assert table["test_elbo"].to_pylist() == [None]


_VALUES: dict[pa.DataType, st.SearchStrategy[object]] = {
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.float32(): st.floats(allow_nan=False, width=32),
    pa.binary(): st.binary(),
    pa.list_(pa.float32()): st.lists(st.floats(allow_nan=False, width=32)),
}


@st.composite
def frames(draw: st.DrawFn, name: str) -> pd.DataFrame:
    rows = draw(st.integers(0, 4))
    columns = {}
    for field in SCHEMAS[name]:
        values = _VALUES[field.type]
        if field.name == "split":
            values = st.sampled_from(["train", "test"])
        if field.nullable:
            # pandas holds whole numbers next to a null as floats: exact up to 2**53.
            values = st.none() | (
                st.integers(-(2**53), 2**53) if field.type == pa.int64() else values
            )
        drawn = draw(st.lists(values, min_size=rows, max_size=rows))
        columns[field.name] = pd.Series(drawn, dtype=None if drawn else "object")
    return pd.DataFrame(columns)


@pytest.mark.parametrize("name", sorted(set(SCHEMAS) - {"trials"}))
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    frame = data.draw(frames(name))
    table = to_table(name, frame)
    assert table.schema.equals(SCHEMAS[name], check_metadata=True)
    for column in table.schema.names:
        expected = [
            None if pd.api.types.is_scalar(value) and pd.isna(value) else value
            for value in frame[column]
        ]
        assert table[column].to_pylist() == expected


def test_keys_are_columns_that_must_be_filled() -> None:
    for name, key in KEYS.items():
        assert not any(SCHEMAS[name].field(column).nullable for column in key)
