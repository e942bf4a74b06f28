"""Samples, encodings and trajectories against saved models, and without any effect on training."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray

from search_spaces import (
    NAMED,
    Architecture,
    DeteriorationProbe,
    RecordSettings,
    TilesDataset,
    Trial,
)
from study.tables import to_table
from tests import oracle
from tests.trainables.small_packs import ids, on_cpu, small_images, small_trial
from tests.trainables.test_training import Doom, assert_same_rows, some_trials, train
from tests.trainables.test_training import doom as doom
from trainables.datasets import ImageData, load_dataset
from trainables.device_data import DeviceData
from trainables.models import TrainedVAE, load_model
from trainables.pack import Pack
from trainables.rows import PackRows
from trainables.training import PackTraining

TILES = TilesDataset(train_images=500, test_images=280)
EVERYTHING = RecordSettings(
    models=True,
    samples=140,  # more than a chunk
    reconstructions=30,
    grid=6,  # 216 codes in lanes of three units or more, 6 in those of one
    encodings=140,
    layers=True,
    trajectory={"images": 3, "every_steps": 4, "epochs": 2},
)


@pytest.fixture(scope="module")
def tiles() -> ImageData:
    return load_dataset(TILES)


def tiles_trials(architecture: Architecture, **shared: Any) -> list[Trial]:
    shared = {"dataset": TILES, "architecture": architecture, "epochs": 3, "beta": 2.0} | shared
    lanes = [{"latent_dim": d, "seed": seed} for d, seed in [(3, 1), (8, 2), (1, 3)]]
    return [small_trial(**shared, **lane) for lane in lanes]


def models(rows: PackRows, tmp_path: Any) -> dict[str, TrainedVAE]:
    loaded = {}
    for trial_id, model in rows.models.items():
        (tmp_path / trial_id).write_bytes(model)
        loaded[trial_id] = load_model(tmp_path / trial_id)
    return loaded


def images_of(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Values as the table's columns say: bytes from low to high."""
    values = np.stack([np.frombuffer(row, np.uint8) for row in frame[column]])
    low, high = (frame[name].to_numpy()[:, None] for name in ("low", "high"))
    return np.asarray(low + (high - low) * values / 255)


NETS = [Architecture.dense((16,)), Architecture.conv((3, 4)), NAMED["linear"]]


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_samples_and_encodings_are_those_of_the_saved_model(
    tiles: ImageData, tmp_path: Any, architecture: Architecture, decoder: str
) -> None:
    trials = tiles_trials(architecture, decoder=decoder)
    bare = train(trials, on_cpu(tiles)).units  # a threshold in the middle: some units are active
    middle = bare.loc[bare["split"] == "train", "mean_variance"].median()
    record = EVERYTHING.model_copy(update={"active_variance": middle})
    rows = train(trials, on_cpu(tiles), record)
    units = rows.units[rows.units["split"] == "train"].set_index("trial_id")
    assert 0 < units["active"].sum() < len(units)  # there is something to zero, and to keep
    for trial, (trial_id, model) in zip(trials, models(rows, tmp_path).items(), strict=True):
        d = trial.latent_dim
        active = units.loc[[trial_id]].sort_values("unit")["active"].to_numpy(copy=True)
        own = rows.samples[rows.samples["trial_id"] == trial_id].sort_values("image")
        drawn = torch.randn(140, d, generator=oracle.generator("samples", trial.seed))
        mean, variance = model.encode(tiles.test)
        varied = np.sort(np.argsort(-units.loc[[trial_id]]["mean_variance"].to_numpy())[:3])
        grid = torch.zeros(6 ** len(varied), d, dtype=torch.float64)
        grid[:, varied.tolist()] = torch.from_numpy(
            scipy.stats.norm.ppf([*itertools.product(np.arange(1, 12, 2) / 12, repeat=len(varied))])
        )
        kinds = {"generated": drawn.double(), "grid": grid, "reconstruction": mean[:30]}
        assert set(own["kind"]) == set(kinds)
        for kind, codes in kinds.items():
            frame = own[own["kind"] == kind]
            assert frame["image"].tolist() == list(range(len(codes)))
            np.testing.assert_allclose(np.stack(frame["code"]), codes, atol=1e-6)
            expected = model.decode(codes).flatten(1).numpy()
            without = model.decode(codes * torch.from_numpy(active)).flatten(1).numpy()
            for column, values in (("pixels", expected), ("without_inactive", without)):
                rounded = images_of(frame, column)
                assert np.abs(rounded - values.clip(0, 1)).max() <= 0.5 / 255 + 1e-9
            difference = np.abs(expected - without).max(1)
            np.testing.assert_allclose(frame["largest_difference"], difference, atol=1e-9)
            assert (difference > 0).any() == bool(codes[:, ~active].any())
        reconstructed = own[own["kind"] == "reconstruction"]
        np.testing.assert_array_equal(
            [np.frombuffer(row, np.uint8) for row in reconstructed["original"]], tiles.test[:30]
        )
        assert reconstructed["label"].tolist() == list(tiles.test_labels[:30])
        generated = own[own["kind"] == "generated"]
        assert generated["original"].isna().all()
        assert generated["label"].isna().all()

        codes = rows.encodings[rows.encodings["trial_id"] == trial_id]
        final = codes[codes["split"] == "test"].sort_values(["image", "unit"])
        assert (final["step"] == 3 * 10).all()
        assert (final["epoch"] == 3).all()
        assert final["image"].tolist() == np.repeat(np.arange(140), d).tolist()
        assert final["label"].tolist() == np.repeat(tiles.test_labels[:140], d).tolist()
        for column, values in (("mean", mean), ("variance", variance)):
            ours = final[column].to_numpy().reshape(140, d)
            np.testing.assert_allclose(ours, values[:140], rtol=1e-6, atol=1e-7)


def test_codes_of_several_chunks_in_single_precision(tiles: ImageData, tmp_path: Any) -> None:
    """Where nothing is converted, and the engine writes each chunk over the last."""
    trials = tiles_trials(Architecture.dense((16,)), precision="float32")[:1]
    record = RecordSettings(encodings=999, reconstructions=999, models=True)
    rows = train(trials, on_cpu(tiles), record)
    (model,) = models(rows, tmp_path).values()
    mean, variance = model.encode(tiles.test)
    for column, values in (("mean", mean), ("variance", variance)):
        ours = rows.encodings[column].to_numpy().reshape(280, 3)
        np.testing.assert_allclose(ours, values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.stack(rows.samples["code"]), mean, rtol=1e-4, atol=1e-5)


def test_layers_are_those_of_figure_7_and_of_plain_modules(tiles: ImageData) -> None:
    """The paper's counts have the running statistics of batch normalisation among them."""
    trials = tiles_trials(NAMED["paper-conv"], epochs=1)[:1]
    trials.append(trials[0].model_copy(update={"latent_dim": 16}))
    layers = train(trials, on_cpu(tiles), RecordSettings(layers=True)).layers
    counted = layers.assign(all=layers["parameters"] + layers["running_statistics"])
    paper = counted[counted["trial_id"] == ids(trials)[1]].sort_values("position")
    encoder = paper[paper["layer"].str.startswith("encoder")]
    convolutions = [160, 64, 4640, 9248, 128, 9248, 9248, 128, 4128, 4128, 128, 4128, 528, 528]
    assert encoder["all"].tolist() == convolutions
    assert encoder["weight"].iloc[0] == "16x1x3x3"
    for trial, trial_id in zip(trials, ids(trials), strict=True):
        modules = oracle.PlainVAE(trial, tiles.shape)
        own = layers[layers["trial_id"] == trial_id]
        assert own["parameters"].sum() == sum(p.numel() for p in modules.parameters())


def test_a_trajectory_is_that_of_a_plain_training(tiles: ImageData) -> None:
    """The oracle's model after so many steps: trained by plain PyTorch, one step at a time."""
    trial = tiles_trials(Architecture.dense((16,)))[0]
    rows = train([trial], on_cpu(tiles), EVERYTHING).encodings
    rows = rows[rows["split"] == "train"]
    labels = tiles.train_labels
    chosen = sorted(image for label in (1, 2, 3) for image in np.flatnonzero(labels == label)[:3])
    assert sorted(set(rows["image"])) == chosen
    assert sorted(set(rows["step"])) == [0, 4, 8, 12, 16, 20]
    assert (rows["epoch"] == rows["step"] // 10).all()
    np.testing.assert_array_equal(rows["label"], labels[rows["image"]])

    data = torch.tensor(tiles.train.reshape(-1, *tiles.shape) / 255.0)
    model = oracle.PlainVAE(trial, tiles.shape).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    step = 0
    for epoch in range(2):
        order = torch.randperm(500, generator=oracle.generator("order", 0, epoch))
        noise = torch.randn(500, 3, generator=oracle.generator("noise", trial.seed, epoch)).double()
        for batch in torch.arange(500).split(50):
            if step % 4 == 0:
                seen = rows[rows["step"] == step].sort_values(["image", "unit"])
                with torch.no_grad():
                    mean, log_variance = model.encode(data[chosen])
                for column, values in (("mean", mean), ("variance", log_variance.exp())):
                    ours = seen[column].to_numpy().reshape(len(chosen), 3)
                    np.testing.assert_allclose(ours, values, rtol=1e-6, atol=1e-7)
            optimizer.zero_grad()
            _, objective, *_ = oracle.losses(model, trial, data[order[batch]], noise[batch])
            objective.mean().backward()
            optimizer.step()
            schedule.step()
            step += 1


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_recording_changes_no_training_number(
    tiles: ImageData, architecture: Architecture, precision: str
) -> None:
    trials = tiles_trials(architecture, precision=precision)
    plain = RecordSettings(models=True, active_variance=1e-6)  # units to probe in every trial
    probed = EVERYTHING.model_copy(
        update={
            "active_variance": 1e-6,
            "probe": DeteriorationProbe(most=0.3, recovery_epochs=1),
        }
    )
    recorded = train(trials, on_cpu(tiles), probed)
    bare = train(trials, on_cpu(tiles), plain)
    assert_same_rows(recorded, bare, ids(trials))
    assert recorded.models == bare.models
    for table in ("samples", "encodings", "probes"):
        assert len(getattr(recorded, table)) > 0
        assert len(getattr(bare, table)) == 0


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
def test_a_trial_records_the_same_in_any_company(
    tiles: ImageData, architecture: Architecture
) -> None:
    trials = tiles_trials(architecture)
    together = train(trials, on_cpu(tiles), EVERYTHING)
    for number, trial_id in enumerate(ids(trials)):
        alone = train(trials[number : number + 1], on_cpu(tiles), EVERYTHING, [trial_id])
        for table in ("samples", "encodings"):
            ours, theirs = getattr(together, table), getattr(alone, table)
            ours = ours[ours["trial_id"] == trial_id].reset_index(drop=True)
            assert len(ours) == len(theirs)
            exact = [name for name in ours if ours[name].dtype != object]
            pd.testing.assert_frame_equal(ours[exact], theirs[exact], rtol=1e-6, atol=1e-7)


def test_a_diverged_trial_records_the_state_before(tiles: ImageData, doom: Doom) -> None:
    """No code of the epoch in which it blew up, and images of the last sound weights."""
    data = on_cpu(small_images())
    trials = some_trials()
    doomed = ids(trials)[1]
    record = RecordSettings(
        samples=5, encodings=4, trajectory={"every_steps": 1, "epochs": 3}, models=True
    )
    sound = train(trials, data, record).encodings
    doom(2, "training loss")
    rows = train(trials, data, record)
    codes = rows.encodings[rows.encodings["trial_id"] == doomed]
    assert sorted(set(codes.loc[codes["split"] == "train", "step"])) == list(range(7))
    assert set(codes.loc[codes["split"] == "test", "step"]) == {6}
    assert np.isfinite(codes[["mean", "variance"]]).all(axis=None)
    assert not rows.encodings.duplicated(["trial_id", "step", "split", "image", "unit"]).any()
    assert len(rows.samples[rows.samples["trial_id"] == doomed]) == 5
    for trial_id in set(ids(trials)) - {doomed}:
        ours, theirs = (
            frame[frame["trial_id"] == trial_id].sort_values(["step", "split", "image", "unit"])
            for frame in (rows.encodings, sound)
        )
        np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=1e-6, atol=1e-7)


def test_values_that_are_no_pixels_have_a_range_of_their_own() -> None:
    random = np.random.default_rng(0)
    values = (5 * random.normal(size=(120, 12)) - 3).astype(np.float32)
    data = ImageData("own", (12,), values[:100], values[100:], None, None, "own")
    trial = small_trial(decoder="gaussian", architecture=NAMED["linear"])
    record = RecordSettings(reconstructions=99, samples=3, trajectory={"images": 7})
    rows = train([trial], DeviceData.load(data, torch.device("cpu")), record)
    frame = rows.samples[rows.samples["kind"] == "reconstruction"]
    assert len(frame) == 20  # all there are
    step = ((frame["high"] - frame["low"]) / 255).to_numpy()[:, None]
    assert (np.abs(images_of(frame, "original") - values[100:]) <= 0.5 * step + 1e-5).all()
    assert rows.encodings["label"].isna().all()
    assert sorted(set(rows.encodings["image"])) == list(range(7))
    assert set(rows.samples["shape"]) == {"12"}
    for table in ("samples", "encodings"):
        frame = getattr(rows, table).assign(study="s")
        assert to_table(table, frame).num_rows == len(frame)


def test_resuming_after_any_epoch_records_the_same(tiles: ImageData) -> None:
    trials = tiles_trials(Architecture.dense((8,)))
    data = on_cpu(tiles)
    undisturbed = train(trials, data, EVERYTHING)
    training = PackTraining(trials, ids(trials), data, EVERYTHING)
    while not training.done:
        training = PackTraining(trials, ids(trials), data, EVERYTHING, training.checkpoint())
        training.advance()
    for table in ("samples", "encodings"):
        pd.testing.assert_frame_equal(
            getattr(training.rows(), table), getattr(undisturbed, table), check_exact=True
        )


def test_an_epoch_that_runs_out_of_memory_is_recorded_once(
    tiles: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, data = tiles_trials(Architecture.dense((8,))), on_cpu(tiles)
    undisturbed = train(trials, data, EVERYTHING)
    original = Pack.train_epoch

    def train_epoch(pack: Pack, *arguments: Any, **named: Any) -> Any:
        means = original(pack, *arguments, **named)
        if len(pack.trials) > 1:
            raise torch.OutOfMemoryError("no more")
        return means

    monkeypatch.setattr(Pack, "train_epoch", train_epoch)
    parted = train(trials, data, EVERYTHING)
    key = ["trial_id", "step", "split", "image", "unit"]
    ours, theirs = (rows.encodings.sort_values(key) for rows in (parted, undisturbed))
    assert not ours.duplicated(key).any()
    np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=1e-6, atol=1e-7)
    assert len(parted.samples) == len(undisturbed.samples)
