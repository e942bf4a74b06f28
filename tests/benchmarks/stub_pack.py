"""A pack that trains nothing, for what measures the driver; workers import it by name."""

from typing import Any

from search_spaces import RecordSettings, Trial
from study.planning import PlannedTrial
from tests.benchmarks.plan_scale import stub_rows
from trainables.tune_trainable import METRICS, ROWS, PackTrainable

__all__ = ["StubPack"]

RESULTS = 3
"""Results of a pack, the last one with its rows; a real one reports every two seconds."""


class StubPack(PackTrainable):
    """A pack as far as the driver sees it, which trains nothing."""

    def step(self) -> dict[str, Any]:
        """Save a checkpoint with the first result, and leave rows with the last."""
        if not self._assigned:
            self._results = 0
            return super().step()
        config, self._results = self._assigned, self._results + 1
        values = dict.fromkeys(METRICS, 1.0)
        result: dict[str, Any] = {f"{m}{end}": 1.0 for m in METRICS for end in ("", "_min", "_max")}
        result |= {"lanes": dict.fromkeys(config["trial_ids"], values), "epoch": 1, "done": False}
        result["share_done"] = self._results / RESULTS
        result["share_before"] = 0.0
        if self._results == 1:
            assert self._checkpoints is not None
            self._checkpoints.save(config["pack_id"], b"a checkpoint")
        if self._results == RESULTS:
            trials = [Trial.model_validate(trial) for trial in config["trials"]]
            record = RecordSettings.model_validate(config["record"])
            members = zip(trials, config["trial_ids"], strict=True)
            rows = stub_rows([PlannedTrial(trial, name, "", record) for trial, name in members])
            result |= {"done": True, ROWS: rows}
        return result
