"""A study's search space for a Ray Tune user's own Tuner: each Tune trial is a pack.

    from ray import tune
    from study import PackSearcher, PackTrainable, pack_rows

    searcher = PackSearcher(
        {
            "study": "from-tune",
            "dataset": {"name": "tiles", "train_images": 500, "test_images": 100},
            "axes": {
                "architecture": {"family": "dense", "widths": [32]},
                "latent_dim": 4,
                "beta": {"log_range": [0.1, 4.0]},
                "seed": [0, 1],
            },
            "training": {"epochs": 3},
            "strategy": {"name": "optuna", "points": 6, "objectives": {"maximise": "test_elbo"}},
        }
    )
    tuner = tune.Tuner(
        tune.with_resources(PackTrainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=-1, max_concurrent_trials=2, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            storage_path=storage_path,
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
        ),
    )
    rows = pack_rows(tuner.fit())
    print(rows.trials[["beta", "seed", "status", "test_elbo"]])
    print(rows.units.groupby("trial_id")["active"].sum())

A pack asks Tune for checkpoints by itself, and the last one holds its rows: Tune's retries,
`Tuner.restore` and `pack_rows` need nothing more. But there is no folder of tables to resume from
and to report on, as of `vae-study run`, and packs are cut before Tune has found a node for them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from optuna.storages import InMemoryStorage
from ray import cloudpickle
from ray.tune.search import Searcher

from search_spaces import BadInput, StudySpec, Trial, load_spec
from study.adaptive.opening import adaptive_part, open_search, trials_of_rows
from study.adaptive.proposals import ProposalQueue
from study.packing import PackQueue, PlannedPack, trial_costs
from study.planning import PlannedTrial, planned_trial
from study.run import prepare_study
from study.tables import EPOCHS
from study.tune_rows import as_trials, ended_rows, failed_rows, packs_of_tune
from study.workers import Workers, autoscaler_node_types
from trainables.pack import NUMERICS_VERSION
from trainables.pack_config import pack_config

__all__ = ["PackSearcher"]

REPORT_SECONDS = 2.0


class PackSearcher(Searcher):
    """Gives Tune the packs of a spec, and hears what became of them.

    Attributes:
        spec: The study.
        datasets: Images by label, to hand to workers that do not have them:
            `tune.with_parameters(PackTrainable, datasets=searcher.datasets)`.
        running: Packs by the Tune trial that trains them.
        pruning: Whether there is a `PackPruning` to follow the results.
    """

    def __init__(
        self,
        spec: StudySpec | str | Path | Mapping[str, Any],
        overrides: Sequence[str] = (),
        *,
        resources: Mapping[str, float] = MappingProxyType({"cpu": 1}),
        report_seconds: float = REPORT_SECONDS,
        data_dir: str | Path | None = None,
    ) -> None:
        """Plan a study; a grid or points drawn at random at once, Optuna's as it goes.

        Args:
            spec: A preset's name, a YAML file, a mapping, or a validated spec.
            overrides: Fields to set, as `training.epochs=5`.
            resources: What `tune.with_resources` gives to each trial. Packs are cut for it: on CPUs
                they have few lanes, on GPUs many, which their workers part if memory is short.
            report_seconds: Least time between two results of a pack; 0 for one after every epoch.
            data_dir: Where to look for datasets first.

        Raises:
            BadInput: The spec, a dataset or the resources are not as they should be.
        """
        super().__init__()
        if not isinstance(spec, StudySpec):
            spec = load_spec(dict(spec) if isinstance(spec, Mapping) else spec, overrides)
        elif overrides:
            raise BadInput("overrides: give them with a preset, file or mapping, not a StudySpec")
        prepared = prepare_study(spec, None if data_dir is None else Path(data_dir))
        self.spec, self.datasets = prepared.spec, prepared.datasets
        self.running: dict[str, PlannedPack] = {}
        self.pruning = False
        self._planned = prepared.planned
        self._threads = max(1, int(resources.get("cpu", 0)))
        self._gpus = float(resources.get("gpu", 0))
        self._report_seconds = report_seconds
        # Of the arguments, so that a pickled searcher is one that has not begun; see `save`.
        self._again = partial(
            PackSearcher,
            prepared.spec,
            resources=dict(resources),
            report_seconds=report_seconds,
            data_dir=data_dir,
        )
        self._most: int | None = None  # packs at a time, as Tune limits them
        self._own: set[str] = set()  # Tune trials that this process has suggested
        self._finished = False  # as Tune was told
        self._works = False  # whether any pack has given a result
        self._rows: dict[str, dict[str, Any]] = {}  # of `trials`
        self._optuna = InMemoryStorage()
        self._workers: Workers | None = None
        self._queue: PackQueue | ProposalQueue | None = None

    @property
    def trials(self) -> pd.DataFrame:
        """The rows of `trials` so far."""
        return as_trials(self._rows.values())

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Refuse a number of samples, of which Tune's default is one: a single pack.

        Raises:
            BadInput: There is one.
        """
        if spec.get("num_samples", -1) != -1:
            raise BadInput(
                f"num_samples: {spec['num_samples']} would end the search after as many packs; "
                "give tune.TuneConfig(num_samples=-1), the spec says how many trials there are"
            )
        return False

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Note how many packs run at a time, to leave work for all; Tune sees to the limit."""
        self._most = max_concurrent
        return False

    def suggest(self, trial_id: str) -> Any:
        """Return the config of the next pack.

        Raises:
            BadInput: The spec has a pruner, and nobody follows the results for it.
        """
        queue = self._ready_queue()
        pack = queue.next_pack()
        if pack is None:
            # One that fails leaves trials to run alone. A pack of an earlier process is not waited
            # for: Tune may have been told to leave it.
            self._finished = not self._own & self.running.keys()
            return Searcher.FINISHED if self._finished else None
        self.running[trial_id] = pack
        self._own.add(trial_id)
        return {
            "study": self.spec.study,
            **pack_config(
                pack.pack_id,
                [member.trial for member in pack.members],
                [member.trial_id for member in pack.members],
                pack.members[0].record,
                threads=self._threads,
                gpu_share=min(1.0, self._gpus),
                report_seconds=0.0 if self.pruning else self._report_seconds,
                checkpoint_seconds=self.spec.resources.checkpoint_seconds,
                dataset_fingerprint=pack.members[0].dataset_fingerprint,
            ),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note that packs do train."""
        self._works = True

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take the rows of a pack, and tell Optuna.

        Trials of a pack that failed for good go on one by one, and one that failed alone is
        recorded; as the whole pack is if no pack has trained yet, for then it is not the trials.
        """
        queue = self._ready_queue()
        pack = self.running.pop(trial_id, None)
        if pack is None:
            return
        alone = len(pack.members) == 1 or not self._works or self._finished
        if error and not alone:
            queue.split(pack)
            return
        if error:
            rows = failed_rows(self.spec.study, pack, f"see the error of Tune's trial {trial_id}")
        else:
            self._works = True
            rows = ended_rows(self.spec.study, pack, result or {})
        self._rows |= {row["trial_id"]: row for row in rows}
        if isinstance(queue, ProposalQueue):
            queue.finish(rows)

    def hopeless(self, result: Mapping[str, Any]) -> list[str]:
        """Return the ids of those lanes of a result that Optuna's pruner gives up."""
        queue = self._queue
        return queue.report(result.get("lanes", {})) if isinstance(queue, ProposalQueue) else []

    def save(self, checkpoint_path: str) -> None:
        """Save what `Tuner.restore` needs of us, beside what Tune knows: rows, Optuna's study."""
        state = NUMERICS_VERSION, self._rows, self._optuna, self._finished
        Path(checkpoint_path).write_bytes(cloudpickle.dumps(state))  # type: ignore[no-untyped-call]

    def restore(self, checkpoint_path: str) -> None:
        """Go on from what `save` wrote; Tune goes on with the packs in flight.

        Tune copies its own state and ours to its storage file by file, so a driver that is killed
        may leave them of two moments. What Tune knows is what it goes on with, and counts.

        Raises:
            BadInput: It is of a version that gives other numbers.
        """
        saved, *state = cloudpickle.loads(Path(checkpoint_path).read_bytes())
        if saved != NUMERICS_VERSION:
            raise BadInput(
                f"Tuner.restore: the run began with numerics version {saved}, and this vae-study "
                f"has {NUMERICS_VERSION}, which gives other numbers; start a new Tuner"
            )
        rows, optuna, finished = state
        running: dict[str, PlannedPack] = {}
        known_rows: dict[str, dict[str, Any]] = {}
        for trial_id, known in packs_of_tune(Path(checkpoint_path).parent).items():
            ids = [member.trial_id for member in known.pack.members]
            if known.status == "TERMINATED":
                ended = ended_rows(self.spec.study, known.pack, known.result)
                known_rows |= {row["trial_id"]: row for row in ended}
            elif known.status == "ERROR":
                known_rows = {name: rows[name] for name in ids if name in rows} | known_rows
            else:
                running[trial_id] = known.pack
        # All at once: where this fails, Tune begins the run again, with this searcher.
        self.running, self._rows = running, known_rows
        self._optuna, self._finished = optuna, finished
        self._own, self._queue = set(), None

    def __reduce__(self) -> Any:
        return self._again, ()

    def _ready_queue(self) -> PackQueue | ProposalQueue:
        """Return who has packs, for the cluster as it is now; it is made when Ray is there."""
        if self._workers is None:
            limit = self.spec.resources.max_packs
            most = None if limit == "auto" else limit
            self._workers = Workers(self._threads, self._gpus, most, autoscaler_node_types())
        count, memory = self._workers.count, self._workers.memory("")
        count = min(count, self._most or count)
        if self._queue is None:
            sizes: dict[str, Any] = {
                "pack_size": self.spec.resources.pack_size,
                "workers": count,
                "memory": memory,
                "gpu": self._gpus > 0,
            }
            if adaptive_part(self.spec) is None:
                self._queue = self._grid(sizes)
            else:
                self._queue = self._proposals(sizes)
        self._queue.workers, self._queue.memory = count, memory
        return self._queue

    def _grid(self, sizes: dict[str, Any]) -> PackQueue:
        taken = {member.trial_id for pack in self.running.values() for member in pack.members}
        taken |= self._rows.keys()
        waiting = [planned for planned in self._planned if planned.trial_id not in taken]
        return PackQueue(waiting, trial_costs(waiting, self.datasets), **sizes)

    def _proposals(self, sizes: dict[str, Any]) -> ProposalQueue:
        part = adaptive_part(self.spec)
        assert part is not None
        record = part.record

        def plan(trial: Trial) -> PlannedTrial:
            return planned_trial(trial, self.datasets[trial.dataset.label].fingerprint, record)

        search = open_search(self.spec, self._optuna, plan)
        if search.prunes and not self.pruning:
            raise BadInput(
                "strategy.pruner: nobody would ask it; give the Tuner "
                "tune.RunConfig(callbacks=[PackPruning(searcher)]), or leave the pruner out"
            )
        rows = self.trials
        no_epochs = EPOCHS.empty_table().to_pandas()
        unfinished = search.restore(rows, no_epochs, trials_of_rows(rows, part.dataset))
        in_flight = list(self.running.values())
        members = [member for pack in in_flight for member in pack.members]
        unfinished += [new for member in members if (new := search.adopt(member.trial))]
        queue = ProposalQueue(
            search,
            lambda planned: trial_costs([planned], self.datasets)[planned.trial_id],
            committed=rows,
            unfinished=unfinished,
            resumed=in_flight,
            **sizes,
        )
        for _ in in_flight:  # Tune has them already
            queue.next_pack()
        return queue
