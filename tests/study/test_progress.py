import io
import re
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from study import progress as progress_module
from study.packing import PlannedPack, pack_name
from study.progress import Progress, readable_seconds
from tests.study.plans import planned_trials

PLANNED = planned_trials({"architecture": "linear", "latent_dim": [2, 4], "seed": [0, 1, 2, 3]})
PACKS = [
    PlannedPack(pack_name([m.trial_id for m in members]), tuple(members))
    for members in (PLANNED[:4], PLANNED[4:7], PLANNED[7:])
]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def show(terminal: bool = False, done: int = 2, work: float = 10.0) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=40)
    costs = {p.trial_id: work for p in PLANNED}
    return Progress(console, len(PLANNED) + done, done, costs), text


def rows(pack: PlannedPack, active: int = 1, **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"trial_id": [m.trial_id for m in pack.members]})
    return frame.assign(status="completed", active_units=active, epochs_trained=20).assign(
        **columns
    )


def test_the_time_left_does_not_count_what_a_checkpoint_held(clock: Clock) -> None:
    progress, _ = show(done=0)
    clock.now += 30
    progress.report(PACKS[0], {"share_done": 0.75, "share_before": 0.5})  # of half of all the work
    assert "2 min 30 s left" in progress.line()  # an eighth of all in 30 s, five are left
    clock.now += 30
    progress.finish(PACKS[0], rows(PACKS[0]))
    progress.report(PACKS[1], {"share_done": 0.0, "share_before": 0.0})
    assert ", 2 min 0 s left" in progress.line()


def test_the_state_in_a_line(clock: Clock) -> None:
    progress, _ = show()
    assert progress.line() == "0 s  2/10 trials done"
    clock.now += 30
    progress.report(PACKS[0], {"share_done": 0.5, "share_before": 0.0})  # a quarter of all the work
    line = progress.line()
    assert line.startswith("30 s  2/10 trials done, 4 training in 1 pack")
    assert "1 min 30 s left" in line
    clock.now += 30
    progress.finish(PACKS[0], rows(PACKS[0], 3))
    line = progress.line()
    assert "6/10 trials done" in line
    assert "240 trials/h" in line  # four in a minute; those done before do not count
    assert "active units 3" in line
    assert "training" not in line
    progress.finish(PACKS[1], rows(PACKS[1], 1))
    assert "active units 1 to 3" in progress.line()
    assert "failed" not in progress.line()


def test_time_left_counts_work_not_trials(clock: Clock) -> None:
    text = io.StringIO()
    costs = {p.trial_id: 1.0 if p in PLANNED[:4] else 29.0 for p in PLANNED}
    progress = Progress(Console(file=text), len(PLANNED), 0, costs)
    clock.now += 60
    progress.finish(PACKS[0], rows(PACKS[0]))
    progress.report(PACKS[1], {"share_done": 0.0, "share_before": 0.0})
    assert "29 min 0 s left" in progress.line()  # half the trials, a thirtieth of the work


def test_what_goes_wrong_is_told(clock: Clock) -> None:
    progress, text = show()
    with progress:
        progress.fail(PACKS[2], "ValueError: [bold]it was told to[/bold]")
        diverged = rows(PACKS[1], status=["completed", "diverged", "completed"], epochs_trained=7)
        progress.finish(PACKS[1], diverged)
        progress.warn("a\tpack starts again")
    assert progress.failed == 1
    lines = text.getvalue().splitlines()
    assert f"trial {PLANNED[7].trial_id} failed: ValueError: [bold]it was told to[/bold]" in lines
    assert f"trial {PLANNED[5].trial_id} diverged after epoch 7" in lines
    assert lines[-1].endswith("1 diverged, 1 failed")
    assert "5/10 trials done" in lines[-1]


def test_a_trial_that_failed_in_its_pack_is_told(clock: Clock) -> None:
    progress, text = show()
    status = ["completed", "failed", "completed"]
    error = [None, "out of memory, and by itself in its pack: x", None]
    progress.finish(PACKS[1], rows(PACKS[1], status=status, error=error))
    line = f"trial {PLANNED[5].trial_id} failed: out of memory, and by itself in its pack: x"
    assert line in text.getvalue().splitlines()
    assert progress.failed == 1
    assert "4/10 trials done" in progress.line()


def test_a_pack_that_is_put_back_trains_no_more(clock: Clock) -> None:
    progress, _ = show()
    progress.report(PACKS[0], {"share_done": 0.5, "share_before": 0.0})
    progress.leave(PACKS[0])
    progress.leave(PACKS[1])  # which had no result yet
    assert "training" not in progress.line()
    assert "2/10 trials done" in progress.line()


def test_a_log_file_gets_a_line_now_and_then(clock: Clock) -> None:
    progress, text = show()
    with progress:
        for second in range(100):
            clock.now += 1
            progress.report(PACKS[0], {"share_done": second / 100, "share_before": 0.0})
        lines = text.getvalue().splitlines()
        assert 5 <= len(lines) <= 10
    assert text.getvalue().endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text.getvalue())
    assert max(map(len, text.getvalue().splitlines())) > 40  # lines are not broken


def test_a_terminal_gets_a_live_line(clock: Clock) -> None:
    progress, text = show(terminal=True)
    with progress:
        progress.report(PACKS[0], {"share_done": 0.5, "share_before": 0.0})
        progress.warn("look")
    assert "\x1b[" in text.getvalue()
    assert "look" in text.getvalue()
    assert text.getvalue().endswith("\n")


def test_a_pack_reported_again_counts_once(clock: Clock) -> None:
    progress, _ = show()
    clock.now += 10
    for share in (0.25, 0.5, 0.5, 0.2):  # the last after its worker was started again
        progress.report(PACKS[0], {"share_done": share, "share_before": 0.0})
    assert "4 training in 1 pack" in progress.line()
    assert "1 min 30 s left" in progress.line()  # 4 of 20 epochs of half the work


def test_no_work_and_no_time(clock: Clock) -> None:
    progress, _ = show(work=0.0)
    progress.report(PACKS[0], {"share_done": 0.0, "share_before": 0.0})
    progress.finish(PACKS[0], rows(PACKS[0]))
    assert "6/10 trials done" in progress.line()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_readable_seconds(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text
