"""Progress of a running study: a live line in a terminal, plain lines in a log file."""

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from study.packing import PlannedPack

__all__ = ["Progress", "readable_seconds"]

LOG_SECONDS = 10.0


class Progress:
    """Shows trials done of all, rate, time left, active units so far, and failures.

    The time left counts arithmetic, not trials, since a convolutional trial may take as long as
    ten dense ones.
    """

    def __init__(
        self, console: Console, planned: int, done: int, work: Mapping[str, float]
    ) -> None:
        """Start the clock.

        Args:
            console: Where to show it; a terminal gets a live line.
            planned: Trials of the study.
            done: Those that were done before; others of them may have failed.
            work: Floating-point operations by trial_id, of the trials to run. Where it does not
                hold all of them yet, the others count as their mean.
        """
        self._console = console
        self._planned = planned
        self._done = done
        self._done_before = done
        self._work = work
        self._finished_work = 0.0
        self._before: dict[str, float] = {}  # pack_id to work done before this run
        self._running: dict[str, tuple[float, int]] = {}  # pack_id to (work done, lanes)
        self._statuses: Counter[str] = Counter()
        self._active: tuple[int, int] | None = None
        self._start = self._last_line = time.monotonic()
        self._bar: Bar | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Bar(*columns, console=console, transient=True)
            self._task = self._bar.add_task("training", total=self._total_work, text="")

    @property
    def _total_work(self) -> float:
        if not self._work:
            return 0.0
        mean = sum(self._work.values()) / len(self._work)
        return mean * (self._planned - self._done_before) - sum(self._before.values())

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._console.print(self.line(), highlight=False, soft_wrap=True)

    @property
    def failed(self) -> int:
        """Trials that failed in this run."""
        return self._statuses["failed"]

    def report(self, pack: "PlannedPack", result: Mapping[str, Any]) -> None:
        """Take a result of a running pack.

        Args:
            pack: The pack.
            result: `share_done` of its work, and `share_before`, which a checkpoint held already.
        """
        before, done = result["share_before"], result["share_done"]
        if before:
            self._before[pack.pack_id] = self._pack_work(pack) * before
        work = self._pack_work(pack) * (done - before)
        self._running[pack.pack_id] = work, len(pack.members)
        self._show()

    def finish(self, pack: "PlannedPack", trials: pd.DataFrame) -> None:
        """Take the rows of a finished pack."""
        self._finish(pack)
        active, done = [], 0
        for row in trials.to_dict("records"):
            status = row["status"]
            self._statuses[status] += 1
            done += status != "failed"
            if status == "completed":
                active.append(int(row["active_units"]))
            elif status == "diverged":
                trained = int(row["epochs_trained"])
                self.warn(f"trial {row['trial_id']} diverged after epoch {trained}")
            elif status == "failed":
                self.warn(f"trial {row['trial_id']} failed: {row['error']}")
        if active:
            low, high = self._active or (active[0], active[0])
            self._active = min(low, *active), max(high, *active)
        self._done += done
        self._show()

    def fail(self, pack: "PlannedPack", error: str) -> None:
        """Take a pack that failed for good."""
        self._finish(pack)
        self._statuses["failed"] += len(pack.members)
        for member in pack.members:
            self.warn(f"trial {member.trial_id} failed: {error}")

    def warn(self, text: str) -> None:
        """Print a line above the progress."""
        self._console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def line(self) -> str:
        """Return the state in one line."""
        elapsed = time.monotonic() - self._start
        worked = self._finished_work + sum(work for work, _ in self._running.values())
        parts = [f"{readable_seconds(elapsed)}  {self._done}/{self._planned} trials done"]
        if self._running:
            lanes = sum(lanes for _, lanes in self._running.values())
            packs = len(self._running)
            parts.append(f"{lanes} training in {packs} pack" + ("s" if packs > 1 else ""))
        if self._done > self._done_before and elapsed:
            parts.append(f"{(self._done - self._done_before) / elapsed * 3600:,.0f} trials/h")
        if self._running and worked and elapsed > 1:
            left = elapsed * (self._total_work - worked) / worked
            parts.append(f"{readable_seconds(left)} left")
        if self._active:
            low, high = self._active
            parts.append(f"active units {low}" + (f" to {high}" if high > low else ""))
        for status in ("pruned", "diverged", "failed"):
            if self._statuses[status]:
                parts.append(f"{self._statuses[status]} {status}")
        return ", ".join(parts)

    def leave(self, pack: "PlannedPack") -> None:
        """Take a pack off that is not being trained any more, finished or not."""
        self._running.pop(pack.pack_id, None)

    def _finish(self, pack: "PlannedPack") -> None:
        self.leave(pack)
        self._finished_work += self._pack_work(pack) - self._before.get(pack.pack_id, 0.0)

    def _pack_work(self, pack: "PlannedPack") -> float:
        return sum(self._work[member.trial_id] for member in pack.members)

    def _show(self) -> None:
        if self._bar is not None:
            worked = self._finished_work + sum(work for work, _ in self._running.values())
            self._bar.update(self._task, completed=worked, total=self._total_work, text=self.line())
        elif time.monotonic() - self._last_line >= LOG_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(self.line(), highlight=False, soft_wrap=True)


def readable_seconds(seconds: float) -> str:
    """Return a duration as people say it, e.g. `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
