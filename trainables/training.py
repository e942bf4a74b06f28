"""The training of a pack from its first epoch to its rows: checkpoints, and memory that ends."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pandas as pd

from search_spaces import RecordSettings, Trial
from trainables import checkpoints
from trainables.checkpoints import Part
from trainables.costs import lane_epochs
from trainables.deterioration import ProbedLane, epochs_left
from trainables.device_data import DeviceData
from trainables.lane_training import LaneTraining
from trainables.pack import Pack
from trainables.probes import ProbeTraining
from trainables.process import is_out_of_memory, release_memory
from trainables.rows import PackRows, RowCollector, last_epochs

__all__ = ["PackTraining"]


class PackTraining:
    """Trains a pack epoch by epoch and collects its rows.

    Lanes train together as long as memory suffices. Where it does not, they are parted in halves
    that are trained to their end one after the other, and parted again if need be; the numbers of
    a trial are the same (it goes on from where it was, with its own draws). A trial that does not
    fit by itself is recorded as `failed`, and the others go on.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        trial_ids: Sequence[str],
        data: DeviceData,
        record: RecordSettings,
        checkpoint: bytes | None = None,
    ) -> None:
        """Start, or go on from a checkpoint of the same trials.

        Args:
            trials: The lanes' trials, of one `stack_key`.
            trial_ids: Their ids, in the same order.
            data: The images, on the device that trains.
            record: What is recorded, and the thresholds of activity.
            checkpoint: What `checkpoint()` gave; None to start.

        Raises:
            BadInput: The trials do not fit the images.
            ValueError: The checkpoint belongs to other trials or another numerics version.
        """
        self.record = record
        self._members = dict(zip(trial_ids, trials, strict=True))
        self._data = data
        if checkpoint is None:
            latent_dim = max(trial.latent_dim for trial in trials)
            self._waiting = [Part(list(trial_ids), 0, latent_dim, {}, 0.0, 0)]
            self._collector = RowCollector()
            self._started_at = datetime.now(UTC)
            self._latest = pd.DataFrame()
        else:
            saved = checkpoints.unpack(checkpoint, list(trial_ids))
            self._waiting = list(saved.parts)
            self._collector = RowCollector(saved.rows)
            self._started_at = datetime.fromisoformat(saved.started_at)
            self._latest = last_epochs(saved.rows.epochs)
        self._lanes: LaneTraining | ProbeTraining | None = None
        self._next_part()

    @property
    def done(self) -> bool:
        """Whether every lane has its row in `trials`."""
        return not self.trial_ids

    @property
    def trial_ids(self) -> list[str]:
        """Ids of the lanes still in training; empty when all are finished."""
        return [trial_id for part in self._parts() for trial_id in part.lanes]

    @property
    def epochs_done(self) -> float:
        """Epochs completed, the mean over all lanes; one that has ended counts in full.

        Those of a probe come on top and are not counted.
        """
        epochs = next(iter(self._members.values())).epochs
        left = sum(max(0, epochs - part.epoch) * len(part.lanes) for part in self._parts())
        return epochs - left / len(self._members)

    @property
    def share_done(self) -> float:
        """Share of the epochs of all lanes that are done, probes included; 1 where all have ended.

        It never falls, and stands still while a probe takes longer than expected.
        """
        epochs = lane_epochs(next(iter(self._members.values())), self.record)
        left = sum(self._epochs_left(part, epochs) for part in self._parts())
        return 1 - left / (epochs * len(self._members))

    @property
    def latest(self) -> pd.DataFrame:
        """One row per lane trained last: see `LaneTraining.latest`; a probe changes nothing."""
        return self._latest

    @property
    def pack(self) -> Pack:
        """The lanes that train together now, or did last."""
        if self._lanes is None:
            raise RuntimeError("no lane of this pack fits in memory")
        return self._lanes.pack

    def advance(self) -> None:
        """Train one epoch of the lanes whose turn it is, or part them if they do not fit."""
        if self._lanes is None:
            raise RuntimeError("this pack is done")
        self._attempt(self._lanes.advance)

    def prune(self, trial_ids: Collection[str]) -> None:
        """Finish lanes before their last epoch, as `pruned`, with the statistics that they have.

        They leave the pack, so that its epochs take less time; the numbers of the others do not
        change. Lanes that wait for their turn, or are through with training, are passed over.

        Args:
            trial_ids: Their ids.
        """
        if isinstance(self._lanes, LaneTraining):
            self._attempt(partial(self._lanes.prune, trial_ids))

    def _attempt(self, step: Callable[[], None]) -> None:
        """Take a step with the lanes whose turn it is; part them where memory does not suffice."""
        assert self._lanes is not None
        problem = None
        try:
            step()
        except Exception as error:  # the frames it holds hold tensors: it ends with this block
            if not is_out_of_memory(error):
                raise
            problem = _first_line(error)
        if isinstance(self._lanes, LaneTraining) and not self._lanes.latest.empty:
            self._latest = self._lanes.latest
        if problem is not None:
            part, self._lanes = self._lanes.part(), None
            self._part_in_halves(part, problem)
        if self._lanes is None or not self._lanes.trial_ids:
            if isinstance(self._lanes, LaneTraining) and self._lanes.probe is not None:
                self._waiting.insert(0, self._lanes.probe)
            self._next_part()

    def trials(self) -> pd.DataFrame:
        """Return the rows of the finished lanes."""
        trials = self._collector.trials()
        return trials.assign(started_at=self._started_at) if len(trials) else trials

    def rows(self) -> PackRows:
        """Return the rows of the finished lanes, and the units and epochs so far of all."""
        return replace(self._collector.rows(), trials=self.trials())

    def checkpoint(self) -> bytes:
        """Return all that is needed to go on from here, as a safetensors file."""
        return checkpoints.pack_up(
            checkpoints.Checkpoint(
                members=list(self._members),
                parts=self._parts(),
                rows=self.rows(),
                started_at=self._started_at.isoformat(),
            )
        )

    def _epochs_left(self, part: Part, epochs: int) -> int:
        """Return how many of so many epochs each the lanes of a part have left, summed up."""
        if part.probe:
            assert self.record.probe is not None
            return sum(epochs_left(ProbedLane(**lane), self.record.probe) for lane in part.probe)
        return (epochs - part.epoch) * len(part.lanes)

    def _parts(self) -> list[Part]:
        """Return the lanes in training, those whose turn it is first."""
        current = [self._lanes.part()] if self._lanes and self._lanes.trial_ids else []
        return [*current, *self._waiting]

    def _next_part(self) -> None:
        """Set the next waiting lanes up, parting them until they fit."""
        while self._waiting:
            part = self._waiting.pop(0)
            self._lanes = None  # its memory is needed
            problem = None
            try:
                kind = ProbeTraining if part.probe else LaneTraining
                self._lanes = kind(self._members, part, self._data, self.record, self._collector)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                problem = _first_line(error)
            if problem is None:
                return
            self._part_in_halves(part, problem)

    def _part_in_halves(self, part: Part, problem: str) -> None:
        """Let lanes that do not fit together wait as two parts; one alone has failed."""
        release_memory()
        if len(part.lanes) == 1:
            text = f"out of memory, and by itself in its pack: {problem}"
            self._collector.add_failure(
                {"trial_id": part.lanes[0], "status": "failed", "error": text}
            )
            return
        middle = (len(part.lanes) + 1) // 2
        halves = slice(0, middle), slice(middle, None)
        self._waiting[:0] = [self._some_lanes(part, half) for half in halves]

    def _some_lanes(self, part: Part, lanes: slice) -> Part:
        """Return some lanes of a part, in the machine's own memory."""
        ids = part.lanes[lanes]
        latent_dim = part.latent_dim
        if not part.tensors:  # nothing is laid out yet
            latent_dim = max(self._members[trial_id].latent_dim for trial_id in ids)
        tensors = {name: t[lanes].to("cpu", copy=True) for name, t in part.tensors.items()}
        probe = part.probe[lanes]
        return replace(part, lanes=ids, latent_dim=latent_dim, tensors=tensors, probe=probe)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
