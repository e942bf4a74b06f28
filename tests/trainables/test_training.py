"""A pack from its first epoch to its rows: records, divergence, checkpoints at every epoch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from search_spaces import Architecture, RecordSettings, Trial
from study.tables import EPOCHS, TRIALS, UNITS, to_table
from tests.trainables.small_packs import ids, on_cpu, small_images, small_trial
from trainables.datasets import ImageData
from trainables.device_data import DeviceData
from trainables.pack import NUMERICS_VERSION, EpochMeans, Pack
from trainables.rows import PackRows
from trainables.statistics import evaluate
from trainables.training import PackTraining

CLOCKS = {"trials": ["seconds", "started_at", "samples_per_second"], "epochs": ["seconds"]}
KEYS = {
    "trials": ["trial_id"],
    "units": ["trial_id", "epoch", "split", "unit"],
    "epochs": ["trial_id", "epoch"],
}
DOOMED = 13  # the seed of the trial that the tests let diverge

Doom = Callable[..., None]


@pytest.fixture(scope="module")
def data() -> ImageData:
    return small_images()


@pytest.fixture(scope="module")
def device_data(data: ImageData) -> DeviceData:
    return on_cpu(data)


def some_trials(**shared: Any) -> list[Trial]:
    """Four trials; the doomed one is the widest, so that losing it leaves padding behind."""
    shared = {"epochs": 4} | shared
    lanes: list[dict[str, Any]] = [
        {"latent_dim": 3, "seed": 1, "beta": 0.5},
        {"latent_dim": 9, "seed": DOOMED, "beta": 2.0},
        {"latent_dim": 1, "seed": 2, "initialisation": "torch"},
        {"latent_dim": 5, "seed": 3, "objective": "no_sampling"},
    ]
    return [small_trial(**shared, **lane) for lane in lanes]


def train(
    trials: Sequence[Trial],
    data: DeviceData,
    record: RecordSettings | None = None,
    trial_ids: Sequence[str] | None = None,
) -> PackRows:
    training = PackTraining(trials, trial_ids or ids(trials), data, record or RecordSettings())
    while not training.done:
        training.advance()
    return training.rows()


def rows_of(rows: PackRows, table: str, trial_ids: Sequence[str]) -> pd.DataFrame:
    """A table's rows of some trials in order, without clocks."""
    frame = getattr(rows, table)
    if frame.empty:
        return frame
    frame = frame[frame["trial_id"].isin(trial_ids)].drop(columns=CLOCKS.get(table, []))
    return frame.sort_values(KEYS[table], ignore_index=True)


def assert_same_rows(ours: PackRows, theirs: PackRows, trial_ids: Sequence[str]) -> None:
    """Bitwise, apart from clocks."""
    for table in KEYS:
        pd.testing.assert_frame_equal(
            rows_of(ours, table, trial_ids), rows_of(theirs, table, trial_ids), check_exact=True
        )


def assert_close_rows(ours: PackRows, theirs: PackRows, trial_ids: Sequence[str]) -> None:
    for table in KEYS:
        pd.testing.assert_frame_equal(
            rows_of(ours, table, trial_ids),
            rows_of(theirs, table, trial_ids),
            rtol=1e-9,
            atol=1e-11,
        )


@pytest.fixture
def doom(monkeypatch: pytest.MonkeyPatch) -> Doom:
    """Lets lanes of the doomed seed (or all) blow up in the given epoch, counted from 1."""

    def arrange(epoch: int, sign: str, everyone: bool = False) -> None:
        original = Pack.train_epoch

        def poisoned(pack: Pack, *arguments: Any) -> EpochMeans:
            means = original(pack, *arguments)
            for lane, trial in enumerate(pack.trials):
                if pack.epoch == epoch and (everyone or trial.seed == DOOMED):
                    pack.parameters.flat[lane] = float("nan")
                    if sign == "training loss":
                        means.objective[lane] = float("inf")
            return means

        monkeypatch.setattr(Pack, "train_epoch", poisoned)

    return arrange


def with_driver_columns(rows: PackRows, trials: Sequence[Trial]) -> dict[str, pd.DataFrame]:
    """What a driver adds: the study, the hyperparameters, and where and when."""
    by_id = dict(zip(ids(trials), trials, strict=True))
    known = [
        dict.fromkeys(TRIALS.names)
        | {"study": "s", "pack_id": "p", "dataset_fingerprint": "f", "attempt": 1, "version": "0"}
        | {"numerics_version": NUMERICS_VERSION}
        | by_id[row["trial_id"]].hyperparameters()
        | row
        for row in rows.trials.to_dict("records")
    ]
    return {
        "trials": pd.DataFrame(known),
        "units": rows.units.assign(study="s"),
        "epochs": rows.epochs.assign(study="s"),
    }


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian", "gaussian_learned"])
def test_rows_fit_the_tables(device_data: DeviceData, decoder: str, every: int) -> None:
    trials = some_trials(decoder=decoder, epochs=2)
    rows = train(trials, device_data, RecordSettings(every=every))
    for table, frame in with_driver_columns(rows, trials).items():
        converted = to_table(table, frame)
        assert converted.num_rows == len(frame) > 0
    assert rows.models == {}
    assert (rows.trials["status"] == "completed").all()
    assert (rows.trials["epochs_trained"] == 2).all()
    schemas = {"trials": TRIALS, "units": UNITS, "epochs": EPOCHS}
    for table, schema in schemas.items():
        assert set(getattr(rows, table).columns) <= set(schema.names)


def test_rows_of_a_diverged_trial_fit_too(device_data: DeviceData, doom: Doom) -> None:
    doom(1, "training loss", everyone=True)
    trials = some_trials()
    rows = train(trials, device_data)
    frames = with_driver_columns(rows, trials)
    assert to_table("trials", frames["trials"]).num_rows == 4
    assert to_table("units", frames["units"]).num_rows == 2 * (3 + 9 + 1 + 5)
    assert len(frames["epochs"]) == 0


def test_final_rows_are_the_evaluation_of_the_trained_pack(device_data: DeviceData) -> None:
    """With thresholds of activity amid the units, so that each decides for some of them."""
    trials = some_trials(decoder="gaussian_learned")
    pack = Pack(trials, device_data)
    means = [pack.train_epoch() for _ in range(4)]
    found = {split: evaluate(pack, split, 33) for split in ("train", "test")}
    wide = found["train"].mean_variance[1], found["train"].kl[1]
    record = RecordSettings(
        active_variance=np.median(wide[0]),
        active_kl=np.median(wide[1]),
        reconstruction_gain_images=33,
    )
    rows = train(trials, device_data, record)
    for lane, (trial, trial_id) in enumerate(zip(trials, ids(trials), strict=True)):
        d = trial.latent_dim
        row = rows.trials.set_index("trial_id").loc[trial_id]
        train_ = found["train"]
        law = (train_.posterior_variance + train_.mean_variance)[lane, :d]
        expected = {
            "active_units": (train_.mean_variance[lane, :d] > record.active_variance).sum(),
            "active_units_kl": (train_.kl[lane, :d] > record.active_kl).sum(),
            "train_objective": train_.objective[lane],
            "variance_law_mean": law.mean(),
            "variance_law_variance": ((law - law.mean()) ** 2).mean(),
            "parameters": 36 * 8 + 8 + 2 * (8 * d + d) + d * 8 + 8 + 8 * 36 + 36 + 1,
            "decoder_variance": pack.log_decoder_variance[lane].exp().item(),
        }
        for split, evaluation in found.items():
            expected[f"{split}_elbo"] = evaluation.elbo[lane]
            expected[f"{split}_reconstruction"] = evaluation.reconstruction[lane]
            expected[f"{split}_kl"] = evaluation.kl[lane, :d].sum()
            expected[f"{split}_mse"] = evaluation.mse[lane]
            units = rows.units[(rows.units.trial_id == trial_id) & (rows.units.split == split)]
            assert units["unit"].tolist() == list(range(d))
            assert (units["epoch"] == 4).all()
            assert (units["step"] == 4 * 6).all()
            for name in ("mean", "mean_variance", "posterior_variance", "second_moment", "kl"):
                np.testing.assert_array_equal(units[name], getattr(evaluation, name)[lane, :d])
            gain = evaluation.reconstruction_gain
            assert gain is not None
            np.testing.assert_array_equal(units["reconstruction_gain"], gain[lane, :d])
            np.testing.assert_array_equal(
                units["active"], units["mean_variance"] > record.active_variance
            )
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-12), name
        epochs = rows.epochs[rows.epochs.trial_id == trial_id].sort_values("epoch")
        assert epochs["epoch"].tolist() == [1, 2, 3, 4]
        for name in ("elbo", "reconstruction", "kl"):
            values = [getattr(mean, name)[lane].item() for mean in means]
            np.testing.assert_array_equal(epochs[f"train_{name}"], values)
        assert epochs["test_elbo"].iloc[-1] == found["test"].elbo[lane]
        assert (
            epochs["active_units"].iloc[-1]
            == (found["test"].mean_variance[lane, :d] > record.active_variance).sum()
        )


@pytest.mark.parametrize(
    ("every", "epochs", "recorded"),
    [
        (0, 3, [3]),
        (1, 3, [0, 1, 2, 3]),
        (2, 4, [0, 2, 4]),
        (2, 5, [0, 2, 4, 5]),
        (3, 7, [0, 3, 6, 7]),
        (5, 5, [0, 5]),
        (9, 2, [0, 2]),
    ],
)
def test_units_are_recorded_each_k_epochs_once(
    device_data: DeviceData, every: int, epochs: int, recorded: list[int]
) -> None:
    trials = some_trials(epochs=epochs)[:2]
    rows = train(trials, device_data, RecordSettings(every=every))
    assert not rows.units.duplicated(KEYS["units"]).any()
    for trial, trial_id in zip(trials, ids(trials), strict=True):
        for split in ("train", "test"):
            own = rows.units[(rows.units["trial_id"] == trial_id) & (rows.units["split"] == split)]
            assert own["epoch"].tolist() == [e for e in recorded for _ in range(trial.latent_dim)]
            assert (own["step"] == 6 * own["epoch"]).all()
            assert own["reconstruction_gain"].notna().all()
        own = rows.epochs[rows.epochs["trial_id"] == trial_id]
        assert own["epoch"].tolist() == list(range(0 if every else 1, epochs + 1))
        assert own["train_elbo"].isna().tolist() == (own["epoch"] == 0).tolist()


def test_epoch_0_is_before_training(device_data: DeviceData) -> None:
    trials = some_trials()
    rows = train(trials, device_data, RecordSettings(every=2))
    untrained = evaluate(Pack(trials, device_data), "train")
    first = rows.units[(rows.units["epoch"] == 0) & (rows.units["split"] == "train")]
    for lane, trial_id in enumerate(ids(trials)):
        own = first[first["trial_id"] == trial_id]
        np.testing.assert_array_equal(own["kl"], untrained.kl[lane, : len(own)])


@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize("sign", ["training loss", "evaluation"])
@pytest.mark.parametrize("every", [0, 1])
def test_divergence_stays_in_its_lane(
    device_data: DeviceData, doom: Doom, epoch: int, sign: str, every: int
) -> None:
    trials, record = some_trials(), RecordSettings(every=every)
    trial_ids = ids(trials)
    doomed, others = trial_ids[1], [trial_ids[0], *trial_ids[2:]]
    undisturbed = train(trials, device_data, RecordSettings(every=1))
    without = train([trials[0], *trials[2:]], device_data, record, others)
    doom(epoch, sign)
    rows = train(trials, device_data, record)
    assert rows.trials["trial_id"].is_unique
    assert_close_rows(rows, without, others)

    status = rows.trials.set_index("trial_id")
    assert status.loc[others, "status"].eq("completed").all()
    assert status.loc[doomed, "status"] == "diverged"
    assert status.loc[doomed, "epochs_trained"] == epoch - 1
    measured = status.loc[doomed].drop(
        ["status", "error", "device", "decoder_variance", "started_at"]
    )
    assert np.isfinite(measured.astype(float)).all()

    # Its last rows are those of the epoch before, as an undisturbed run recorded them.
    units = rows.units[rows.units["trial_id"] == doomed]
    assert not units.duplicated(KEYS["units"]).any()
    assert units["epoch"].max() == epoch - 1
    names = ["epoch", "step", "split", "unit", "mean", "mean_variance", "posterior_variance", "kl"]
    last = units[units["epoch"] == epoch - 1]
    assert last["reconstruction_gain"].notna().all()
    earlier = undisturbed.units
    earlier = earlier[(earlier["trial_id"] == doomed) & (earlier["epoch"] == epoch - 1)]
    pd.testing.assert_frame_equal(
        last[names].sort_values(["split", "unit"], ignore_index=True),
        earlier[names].sort_values(["split", "unit"], ignore_index=True),
        rtol=1e-9,
    )
    recorded = rows.epochs.loc[rows.epochs["trial_id"] == doomed, "epoch"].tolist()
    assert recorded == list(range(0 if every else 1, epoch))


def test_a_configuration_that_overflows_diverges_alone(device_data: DeviceData) -> None:
    """Divergence without help: a decoder variance whose inverse is not a number."""
    trials = [
        small_trial(decoder="gaussian", decoder_variance=variance, latent_dim=d, seed=d)
        for d, variance in [(2, 0.5), (6, 1e-310), (3, 1.5)]
    ]
    first, _, third = trial_ids = ids(trials)
    rows = train(trials, device_data)
    assert rows.trials.set_index("trial_id").loc[trial_ids, "status"].tolist() == [
        "completed",
        "diverged",
        "completed",
    ]
    without = train([trials[0], trials[2]], device_data, trial_ids=[first, third])
    assert_close_rows(rows, without, [first, third])


def test_extreme_settings_end_all_the_same(device_data: DeviceData) -> None:
    trials = [
        small_trial(learning_rate=1.0, beta=1e30, precision="float32", epochs=3),
        small_trial(precision="float32", epochs=3),
    ]
    rows = train(trials, device_data)
    status = rows.trials.set_index("trial_id")["status"]
    assert status[ids(trials)[1]] == "completed"
    assert set(status) <= {"completed", "diverged"}
    alone = train(trials[1:], device_data, trial_ids=ids(trials)[1:])
    frames = [rows_of(r, "epochs", ids(trials)[1:]) for r in (rows, alone)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-3)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_pack_ends_when_all_lanes_diverge(
    device_data: DeviceData, doom: Doom, epoch: int
) -> None:
    doom(epoch, "evaluation", everyone=True)
    trials = some_trials()
    training = PackTraining(trials, ids(trials), device_data, RecordSettings())
    for _ in range(epoch):
        assert not training.done
        training.advance()
    assert training.done
    assert training.trial_ids == []
    trial_rows = training.rows().trials
    assert sorted(trial_rows["trial_id"]) == ids(trials)
    assert (trial_rows["status"] == "diverged").all()
    assert (trial_rows["epochs_trained"] == epoch - 1).all()


def test_latest_follows_the_lanes_in_training(device_data: DeviceData, doom: Doom) -> None:
    doom(2, "training loss")
    trials = some_trials()
    training = PackTraining(trials, ids(trials), device_data, RecordSettings())
    seen = []
    while not training.done:
        training.advance()
        seen.append(training.latest["trial_id"].tolist())
        epochs = training.rows().epochs
        now = epochs[epochs["epoch"] == training.pack.epoch].set_index("trial_id")
        latest = training.latest.set_index("trial_id")
        assert set(latest) - set(now) == {"train_objective"}
        for name in now.columns.drop("seconds"):
            assert latest[name].tolist() == now.loc[latest.index, name].tolist()
        assert np.isfinite(latest["train_objective"]).all()
    others = [trial_id for trial_id in ids(trials) if trial_id != ids(trials)[1]]
    assert seen == [ids(trials), others, others, others]


NETS = [Architecture.dense((8,)), Architecture.conv((3, 4))]


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian_learned"])
@pytest.mark.parametrize("doomed_epoch", [None, 2])
def test_resuming_after_any_epoch_gives_the_same_rows(
    device_data: DeviceData,
    doom: Doom,
    architecture: Architecture,
    decoder: str,
    doomed_epoch: int | None,
) -> None:
    """Through bytes and a new object after every epoch, and from each single epoch."""
    if doomed_epoch:
        doom(doomed_epoch, "evaluation")
    trials = some_trials(architecture=architecture, decoder=decoder)
    record = RecordSettings(every=2, models=True)
    undisturbed = train(trials, device_data, record)

    training = PackTraining(trials, ids(trials), device_data, record)
    saved = [training.checkpoint()]
    while not training.done:
        training = PackTraining(trials, ids(trials), device_data, record, saved[-1])
        training.advance()
        saved.append(training.checkpoint())
    resumed = [training.rows()]
    for checkpoint in saved[:-1]:
        training = PackTraining(trials, ids(trials), device_data, record, checkpoint)
        while not training.done:
            training.advance()
        resumed.append(training.rows())
    for rows in resumed:
        assert_same_rows(rows, undisturbed, ids(trials))
        assert rows.models == undisturbed.models
        for table, frame in with_driver_columns(rows, trials).items():
            to_table(table, frame)


def test_resuming_keeps_the_clocks_running(device_data: DeviceData) -> None:
    trials = some_trials()
    training = PackTraining(trials, ids(trials), device_data, RecordSettings())
    training.advance()
    resumed = PackTraining(
        trials, ids(trials), device_data, RecordSettings(), training.checkpoint()
    )
    assert resumed.trial_ids == ids(trials)
    assert resumed.pack.epoch == 1
    while not resumed.done:
        resumed.advance()
    rows = resumed.rows()
    first_epoch = training.rows().epochs["seconds"].sum()
    assert rows.epochs.loc[rows.epochs["epoch"] == 1, "seconds"].sum() == first_epoch
    assert rows.trials["seconds"].sum() >= rows.epochs["seconds"].sum() * (1 - 1e-9)
    while not training.done:
        training.advance()
    undisturbed = training.rows().trials["started_at"]
    assert rows.trials["started_at"].tolist() == undisturbed.tolist()


def test_seconds_cover_evaluation_too(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only evaluation moves: samples per second count it, as the column says."""
    now = [0.0]

    def slow(*arguments: Any) -> Any:
        now[0] += 1.0
        return evaluate(*arguments)

    monkeypatch.setattr("trainables.lane_training.evaluate", slow)
    monkeypatch.setattr("trainables.lane_training.time.perf_counter", lambda: now[0])
    trials = some_trials(epochs=2)
    rows = train(trials, device_data, RecordSettings())
    assert rows.trials["seconds"].sum() == pytest.approx(now[0])
    samples = 4 * 2 * 300
    assert rows.trials["samples_per_second"].tolist() == pytest.approx([samples / now[0]] * 4)


def test_models_are_kept_on_request_for_every_finished_trial(
    device_data: DeviceData, doom: Doom
) -> None:
    doom(2, "evaluation")
    trials = some_trials()
    assert train(trials, device_data).models == {}
    models = train(trials, device_data, RecordSettings(models=True)).models
    assert sorted(models) == ids(trials)


def test_a_pack_of_images_too_small_for_its_gain_subset(data: ImageData) -> None:
    few = small_images(train=60, test=2)
    rows = train(some_trials(epochs=1), on_cpu(few))
    assert rows.units["reconstruction_gain"].notna().all()
    assert torch.isfinite(torch.tensor(rows.trials["test_elbo"].to_numpy())).all()
