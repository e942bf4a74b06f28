"""The probe of a trained unit: its course, its numbers against a plain model, and its safety."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import NAMED, Architecture, DeteriorationProbe, RecordSettings, Trial
from study.tables import to_table
from tests import oracle
from tests.trainables.small_packs import ids, on_cpu, small_images, small_trial
from tests.trainables.test_training import assert_same_rows, train
from trainables.deterioration import (
    ProbedLane,
    UnitState,
    epochs_left,
    expected_epochs,
    go_on,
    next_epoch,
)
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.training import PackTraining

KEY = ["trial_id", "epoch"]
CLOCK = ["seconds"]
GAIN_IMAGES = 130  # more than a chunk


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return on_cpu(small_images())


def probe(**settings: Any) -> RecordSettings:
    few = {"increment": 0.4, "most": 1.6, "collapse_epochs": 2, "recovery_epochs": 3}
    return RecordSettings(
        reconstruction_gain_images=GAIN_IMAGES,
        active_variance=0.02,
        models=True,
        probe=DeteriorationProbe(**(few | settings)),
    )


def some_trials(**shared: Any) -> list[Trial]:
    shared = {"epochs": 5, "learning_rate": 0.01} | shared
    lanes: list[dict[str, Any]] = [
        {"latent_dim": 3, "seed": 1, "beta": 0.2},
        {"latent_dim": 8, "seed": 2, "beta": 0.1},
        {"latent_dim": 1, "seed": 3, "beta": 0.1, "initialisation": "torch"},
        {"latent_dim": 5, "seed": 4, "objective": "no_sampling", "beta": 0.1},
    ]
    return [small_trial(**shared, **lane) for lane in lanes]


def probes(rows: Any) -> pd.DataFrame:
    return rows.probes.drop(columns=CLOCK).sort_values(KEY, ignore_index=True)


# The course, on its own.


def course(settings: DeteriorationProbe, states: list[UnitState]) -> list[ProbedLane]:
    """The epochs of a probe whose unit does as told; the last state goes on for ever."""
    lanes = []
    lane = go_on(ProbedLane(0, [0]), states[0], settings)
    while lane is not None:
        lane = next_epoch(lane, settings)
        lanes.append(lane)
        lane = go_on(lane, states[min(len(lanes), len(states) - 1)], settings)
    return lanes


def test_the_course_of_figure_14() -> None:
    pays, fails, gone = UnitState(5, 1, 0.1), UnitState(0.5, 1, 0.4), UnitState(0, 0.1, 0.95)
    settings = DeteriorationProbe(increment=0.5, settling_epochs=2, recovery_epochs=3)
    lanes = course(settings, [pays] * 5 + [fails] * 2 + [gone])
    assert [(lane.phase, lane.noise) for lane in lanes] == [
        ("settling", 0),
        ("settling", 0),
        ("deterioration", 0.5),
        ("deterioration", 1.0),
        ("deterioration", 1.5),  # after it gain < cost
        ("collapse", 1.5),
        ("collapse", 1.5),  # after it the unit is gone
        ("recovery", 0),
        ("recovery", 0),
        ("recovery", 0),
    ]
    assert [lane.epoch for lane in lanes] == list(range(1, 11))


def test_a_unit_that_never_fails_keeps_to_the_most_noise() -> None:
    settings = DeteriorationProbe(increment=0.1, most=0.3, settling_epochs=0, recovery_epochs=1)
    lanes = course(settings, [UnitState(5, 1, 0.95)])
    assert [lane.phase for lane in lanes] == ["deterioration"] * 3 + ["recovery"]
    assert [lane.noise for lane in lanes] == pytest.approx([0.1, 0.2, 0.3, 0])


def test_noise_goes_at_once_where_nothing_is_waited_for() -> None:
    settings = DeteriorationProbe(collapse_epochs=0, settling_epochs=0, recovery_epochs=1)
    lanes = course(settings, [UnitState(0.5, 1, 0.4)])
    assert [lane.phase for lane in lanes] == ["deterioration", "recovery"]


ANY_SETTINGS = st.builds(
    DeteriorationProbe,
    increment=st.floats(0.05, 1),
    most=st.floats(1, 2),
    settling_epochs=st.integers(0, 3),
    collapse_epochs=st.integers(0, 3),
    recovery_epochs=st.integers(0, 3),
)
ANY_STATES = st.lists(
    st.builds(UnitState, *[st.floats(-2, 2)] * 2, st.floats(0, 1.2)), min_size=1, max_size=40
)


@given(states=ANY_STATES, settings=ANY_SETTINGS)
def test_every_course_ends_in_order(states: list[UnitState], settings: DeteriorationProbe) -> None:
    lanes = course(settings, states)
    order = ["settling", "deterioration", "collapse", "recovery"]
    phases = [order.index(lane.phase) for lane in lanes]
    assert phases == sorted(phases)
    counts = pd.Series([lane.phase for lane in lanes], dtype="str").value_counts()
    assert counts.get("settling", 0) == settings.settling_epochs
    assert counts.get("recovery", 0) == settings.recovery_epochs
    assert counts.get("collapse", 0) <= settings.collapse_epochs
    for before, lane in pairwise(lanes):
        if lane.phase == "deterioration":
            assert lane.noise > (before.noise if before.phase == lane.phase else 0)
            assert lane.noise <= settings.most * (1 + 1e-8)
        elif lane.phase == "collapse":
            assert lane.noise == before.noise
        else:
            assert lane.noise == 0


def test_the_expected_length_is_that_of_a_unit_that_noise_of_two_and_a_half_drowns() -> None:
    """The preset's probe: 1 settling, 25 of noise to 2.5, 20 that wait in vain, 40 of recovery."""
    pays, fails = UnitState(5, 1, 0.1), UnitState(0.5, 1, 0.4)
    settings = DeteriorationProbe()
    assert expected_epochs(settings) == 1 + 25 + 20 + 40
    assert len(course(settings, [pays] * 26 + [fails])) == expected_epochs(settings)
    weaker = DeteriorationProbe(most=0.3, collapse_epochs=0)
    assert expected_epochs(weaker) == 1 + 3 + 40
    assert len(course(weaker, [pays])) == expected_epochs(weaker)


@given(states=ANY_STATES, settings=ANY_SETTINGS)
def test_what_is_left_of_a_probe_never_grows(
    states: list[UnitState], settings: DeteriorationProbe
) -> None:
    """One epoch at least as long as it goes on; all that is to come, once the noise is gone."""
    lane = go_on(ProbedLane(0, [0]), states[0], settings)
    left = [expected_epochs(settings)]
    lanes = []
    while lane is not None:
        lanes.append(lane)
        left.append(epochs_left(lane, settings))
        lane = next_epoch(lane, settings)
        lane = go_on(lane, states[min(len(lanes), len(states) - 1)], settings)
    assert left == sorted(left, reverse=True)
    assert min(left) >= 1
    for place, lane in enumerate(lanes):
        if lane.phase == "recovery":
            assert left[place + 1] == len(lanes) - place


# Training.


NETS = [Architecture.dense((8,)), NAMED["linear"], Architecture.conv((3, 4))]


def plain_probe(trial: Trial, model: Any, optimizer: Any, x: torch.Tensor, rows: Any) -> None:
    """Repeat a recorded probe with plain PyTorch and compare each row's numbers."""
    unit = int(rows["unit"].iloc[0])
    steps = 300 // trial.batch_size
    n, d = GAIN_IMAGES, trial.latent_dim
    still = torch.randn(300, generator=oracle.generator("blur", trial.seed)).double()[:n]
    noise = torch.randn(300, d, generator=oracle.generator("evaluation", trial.seed, 0))
    noise = noise.double()[:n]
    active = model.active_units

    def codes(batch: torch.Tensor, noise: torch.Tensor, blur: torch.Tensor) -> Any:
        mean, log_variance = model.encode(batch)
        z = mean if trial.objective == "no_sampling" else mean + (0.5 * log_variance).exp() * noise
        z = torch.stack(
            [z[:, i] if i in active else torch.zeros(len(z)).double() for i in range(d)], dim=1
        )
        z = z + blur[:, None] * torch.eye(d, dtype=torch.float64)[unit]
        return z, mean, log_variance

    for row in rows.itertuples():
        if row.epoch:
            model.train()
            epoch = trial.epochs + row.epoch - 1
            order = torch.randperm(300, generator=oracle.generator("order", trial.data_seed, epoch))
            drawn = torch.randn(300, d, generator=oracle.generator("noise", trial.seed, epoch))
            shaken = torch.randn(300, generator=oracle.generator("blur", trial.seed, epoch))
            for step in range(steps):
                at = slice(step * trial.batch_size, (step + 1) * trial.batch_size)
                batch = x[order[at]]
                optimizer.zero_grad()
                z, mean, log_variance = codes(
                    batch, drawn[at].double(), row.noise * shaken[at].double()
                )
                penalty = mean.square()
                if trial.objective == "elbo":
                    penalty = penalty + log_variance.exp() - log_variance - 1
                loss = oracle.nll(model, trial, model.decode(z), batch.flatten(1))
                (loss + trial.beta * 0.5 * penalty.sum(1)).mean().backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            z, mean, log_variance = codes(x[:n], noise, row.noise * still)
            zeroed = z.clone()
            zeroed[:, unit] = 0
            target = x[:n].flatten(1)
            loss = oracle.nll(model, trial, model.decode(z), target).mean().item()
            without = oracle.nll(model, trial, model.decode(zeroed), target).mean().item()
            variance = log_variance[:, unit].exp()
            kl = 0.5 * (mean[:, unit] ** 2 + variance - log_variance[:, unit] - 1)
        expected = {
            "reconstruction": loss,
            "reconstruction_gain": without - loss,
            "kl": kl.mean().item(),
            "mean_variance": mean[:, unit].numpy().var(),
            "posterior_variance": variance.mean().item(),
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, rel=1e-6, abs=1e-6), (row, name)


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian_learned"])
def test_a_probe_is_what_a_plain_training_with_noise_gives(
    architecture: Architecture, decoder: str
) -> None:
    """In mixed company, against one plain model that trains on with its own Adam."""
    images = small_images()
    trials = some_trials(architecture=architecture, decoder=decoder)
    rows = train(trials, on_cpu(images), probe())
    units = rows.units[rows.units["split"] == "train"].set_index("trial_id")
    x = torch.tensor(images.train.reshape(-1, *images.shape) / 255.0)
    compared = 0
    for trial, trial_id in zip(trials, ids(trials), strict=True):
        own = probes(rows)
        own = own[own["trial_id"] == trial_id]
        active = units.loc[[trial_id]].query("active").sort_values(["kl", "unit"])
        if active.empty:
            assert own.empty
            continue
        assert set(own["unit"]) == {active["unit"].iloc[len(active) // 2]}
        model, optimizer = plain_training(trial, x)
        model.active_units = set(active["unit"])
        plain_probe(trial, model, optimizer, x, own)
        compared += len(own)
    assert compared > 10
    assert {"start", "settling", "deterioration", "recovery"} <= set(rows.probes["phase"])


def plain_training(trial: Trial, x: torch.Tensor) -> tuple[Any, Any]:
    """The oracle's training, with the optimizer that it ends with, at its full learning rate."""
    model = oracle.PlainVAE(trial, tuple(x.shape[1:])).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, trial.epochs * 300 // trial.batch_size
    )
    for epoch in range(trial.epochs):
        order = torch.randperm(300, generator=oracle.generator("order", trial.data_seed, epoch))
        noise = torch.randn(
            300, trial.latent_dim, generator=oracle.generator("noise", trial.seed, epoch)
        ).double()
        for rows in torch.arange(300).split(trial.batch_size):
            optimizer.zero_grad()
            _, objective, *_ = oracle.losses(model, trial, x[order[rows]], noise[rows])
            objective.mean().backward()
            optimizer.step()
            schedule.step()
    optimizer.param_groups[0]["lr"] = trial.learning_rate
    return model, optimizer


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
def test_a_probe_is_the_same_in_any_company(data: DeviceData, architecture: Architecture) -> None:
    trials = some_trials(architecture=architecture)
    together = probes(train(trials, data, probe()))
    lengths = together.groupby("trial_id").size()
    assert lengths.nunique() > 1 or len(lengths) < 4  # lanes come to their ends at their own times
    for number, trial_id in enumerate(ids(trials)):
        alone = train(trials[number : number + 1], data, probe(), [trial_id])
        ours = together[together["trial_id"] == trial_id].reset_index(drop=True)
        if ours.empty:
            assert alone.probes.empty
            continue
        pd.testing.assert_frame_equal(ours, probes(alone), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("unit", "place"), [("smallest", 0), ("largest", -1)])
def test_the_unit_is_chosen_by_its_kl(data: DeviceData, unit: str, place: int) -> None:
    trials = some_trials()
    rows = train(trials, data, probe(unit=unit, most=0.4, recovery_epochs=0))
    units = rows.units[(rows.units["split"] == "train") & rows.units["active"]]
    chosen = rows.probes.groupby("trial_id")["unit"].agg(["min", "max"])
    for trial_id, own in units.groupby("trial_id"):
        expected = own.sort_values("kl")["unit"].iloc[place]
        assert chosen.loc[trial_id].tolist() == [expected, expected]


def test_trials_without_active_units_have_no_probe(data: DeviceData) -> None:
    record = probe().model_copy(update={"active_variance": 1e9})
    rows = train(some_trials(), data, record)
    assert rows.probes.empty
    assert (rows.trials["status"] == "completed").all()


def test_rows_fit_the_table_and_resuming_after_any_epoch_gives_the_same(data: DeviceData) -> None:
    trials, record = some_trials(), probe()
    undisturbed = train(trials, data, record)
    assert to_table("probes", undisturbed.probes.assign(study="s")).num_rows > 20
    training = PackTraining(trials, ids(trials), data, record)
    done, shares = [], [training.share_done]
    while not training.done:
        training = PackTraining(trials, ids(trials), data, record, training.checkpoint())
        training.advance()
        done.append(training.epochs_done)
        shares.append(training.share_done)
    assert done == sorted(done)
    assert max(done) == trials[0].epochs
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    # 5 of 5 + 10 epochs: 1 settling, 4 of noise to 1.6, 2 and 3 after that.
    assert shares[trials[0].epochs] == pytest.approx(5 / 15)
    assert all(share < 1 for share in shares[:-1])
    assert_same_rows(training.rows(), undisturbed, ids(trials))
    pd.testing.assert_frame_equal(probes(training.rows()), probes(undisturbed), check_exact=True)
    assert training.rows().models == undisturbed.models


@pytest.mark.parametrize("place", ["training", "measuring", "set-up"])
def test_a_probe_that_runs_out_of_memory_is_parted(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    trials, record = some_trials(), probe()
    whole = train(trials, data, record)
    from trainables.probes import ProbeTraining

    refused = []

    def limited(name: str) -> None:
        original = getattr(ProbeTraining, name)

        def method(probing: Any, *arguments: Any) -> Any:
            result = original(probing, *arguments)
            if len(probing.trial_ids) > 1:
                refused.append(len(probing.trial_ids))
                probing.pack.parameters.flat += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return result

        monkeypatch.setattr(ProbeTraining, name, method)

    limited({"training": "_disturbance", "measuring": "_record_epoch", "set-up": "__init__"}[place])
    parted = train(trials, data, record)
    assert refused
    assert parted.trials["trial_id"].is_unique
    assert (parted.trials["status"] == "completed").all()
    pd.testing.assert_frame_equal(probes(parted), probes(whole), rtol=1e-7, atol=1e-9)


def test_a_probe_that_fits_nowhere_fails_its_trial_whole(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row in `trials`, which says failed, and no row or model elsewhere."""
    trials = some_trials()
    original = Pack.train_epoch

    def train_epoch(pack: Pack, *arguments: Any, **named: Any) -> Any:
        if named.get("disturbance") is not None and any(t.seed == 2 for t in pack.trials):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(pack, *arguments, **named)

    monkeypatch.setattr(Pack, "train_epoch", train_epoch)
    rows = train(trials, data, probe())
    lost = ids(trials)[1]
    status = rows.trials.set_index("trial_id")["status"]
    assert status.index.is_unique
    assert status.to_dict() == {i: "failed" if i == lost else "completed" for i in ids(trials)}
    for table in ("units", "epochs", "probes"):
        assert lost not in set(getattr(rows, table)["trial_id"])
    assert sorted(rows.models) == sorted(set(ids(trials)) - {lost})


def test_a_probe_that_diverges_ends_alone(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = some_trials()
    undisturbed = probes(train(trials, data, probe()))
    original = Pack.train_epoch

    def train_epoch(pack: Pack, *arguments: Any, **named: Any) -> Any:
        means = original(pack, *arguments, **named)
        for lane, trial in enumerate(pack.trials):
            if trial.seed == 2 and pack.epoch == 8:
                pack.parameters.flat[lane] = float("nan")
        return means

    monkeypatch.setattr(Pack, "train_epoch", train_epoch)
    rows = train(trials, data, probe())
    lost = ids(trials)[1]
    assert (rows.trials["status"] == "completed").all()
    own = probes(rows)
    own = own[own["trial_id"] == lost]
    assert own["epoch"].tolist() == [0, 1, 2, 3]
    assert own["kl"].isna().tolist() == [False, False, False, True]
    others = probes(rows)
    pd.testing.assert_frame_equal(
        others[others["trial_id"] != lost].reset_index(drop=True),
        undisturbed[undisturbed["trial_id"] != lost].reset_index(drop=True),
        rtol=1e-9,
    )
    assert np.isfinite(undisturbed["kl"]).all()


def test_a_probe_leaves_the_last_results_of_the_training(data: DeviceData) -> None:
    trials = some_trials()
    training = PackTraining(trials, ids(trials), data, probe())
    while not training.done:
        training.advance()
        resumed = PackTraining(trials, ids(trials), data, probe(), training.checkpoint())
        for each in (training, resumed):
            latest = each.latest.set_index("trial_id")
            assert list(latest.index) == ids(trials)
            assert (latest["epoch"] == min(5, training.pack.epoch)).all()
            assert np.isfinite(latest[["test_elbo", "active_units", "variance_law_mean"]]).all(
                axis=None
            )
        assert np.isfinite(training.latest["train_objective"]).all()
    assert training.pack.epoch > 5
