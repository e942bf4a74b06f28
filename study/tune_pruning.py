"""The pruner of a spec in a Tune user's own Tuner."""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from study.tune_search import PackSearcher

__all__ = ["PackPruning"]


class PackPruning(Callback):
    """Lets the pruner of a spec give lanes up while their pack trains on.

    Example:
        >>> searcher = PackSearcher("search.yaml")  # with strategy.pruner
        >>> tune.RunConfig(callbacks=[PackPruning(searcher)])
    """

    def __init__(self, searcher: PackSearcher) -> None:
        """Follow the packs of a searcher."""
        self._searcher = searcher

    def setup(self, *arguments: Any, **info: Any) -> None:
        """Let packs report every epoch."""
        self._searcher.pruning = True

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Tell a pack which of its lanes are hopeless, before it trains on."""
        if hopeless := self._searcher.hopeless(result):
            actor: Any = trial.temporary_state.ray_actor
            actor.prune.remote(hopeless)
