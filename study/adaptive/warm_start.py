"""What earlier studies have found out, for a search that is to begin with it."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from optuna.trial import FrozenTrial, TrialState

from search_spaces import BadInput, OptunaStrategy, Part, Trial
from study.adaptive.opening import trials_of_rows
from study.adaptive.outcome import Outcomes
from study.adaptive.space import SearchSpace
from study.loading import Study, load_study
from study.storage import Folder
from trainables.datasets import ImageData

__all__ = ["WARM_START", "earlier_points"]

WARM_START = "warm_start"
"""The user attribute of Optuna's trials that names the study they were taken from."""


def earlier_points(
    storage: Folder, part: Part, datasets: Mapping[str, ImageData], known: Collection[str] = ()
) -> list[FrozenTrial]:
    """Read the points of this search space that the studies of `strategy.warm_start` have tried.

    Trials count whatever their seeds: a point's values are means over those that the study has. All
    else that is fixed here, epochs for example, has to be the same there, or values would not
    compare.

    Args:
        storage: The folder that holds studies.
        part: The search space.
        datasets: Images by label.
        known: Studies that Optuna has been told of.

    Returns:
        Points that are complete, or were pruned, as trials of Optuna's.

    Raises:
        BadInput: There is no such study, or nothing in it is a point of this space.
    """
    assert isinstance(part.strategy, OptunaStrategy)
    points: list[FrozenTrial] = []
    for place, name in enumerate(part.strategy.warm_start):
        if name in known:
            continue
        try:
            study = load_study(storage.child(name))
        except BadInput as error:
            raise BadInput(f"strategy.warm_start.{place}: {error}") from None
        trials = _trials_on(study, part, datasets)
        space = SearchSpace(part)
        found = list(_points_of(study, space, part.strategy, trials))
        if not found:
            raise BadInput(
                f"strategy.warm_start.{place}: none of the {len(study.trials)} trials of {name!r} "
                f"is a finished point of this space{_why_not(study, space, trials)}; leave it out"
            )
        points += found
    return points


def _trials_on(study: Study, part: Part, datasets: Mapping[str, ImageData]) -> dict[str, Trial]:
    """Return the trials that were trained on the same data, whatever its label was."""
    labels = {data.fingerprint: label for label, data in datasets.items()}
    rows = study.trials.assign(dataset=study.trials["dataset_fingerprint"].map(labels))
    return trials_of_rows(rows, part.dataset)


def _points_of(
    study: Study, space: SearchSpace, strategy: OptunaStrategy, trials: Mapping[str, Trial]
) -> Iterator[FrozenTrial]:
    outcomes = Outcomes.of(strategy)
    parameters = {trial_id: space.parameters_of(trial) for trial_id, trial in trials.items()}
    fitting = [trial_id for trial_id, values in parameters.items() if values is not None]
    rows = study.trials[study.trials["trial_id"].isin(fitting)]
    epochs = study.epochs_of(fitting)
    keys = rows["trial_id"].map(lambda trial_id: repr(parameters[trial_id]))
    for _, own in rows.groupby(keys, sort=False):
        values = parameters[own["trial_id"].iloc[0]]
        assert values is not None
        theirs = epochs[epochs["trial_id"].isin(own["trial_id"])]
        attributes = {WARM_START: study.name, "seeds": sorted(own["seed"].unique().tolist())}
        point = outcomes.frozen(own, theirs, values, space.distributions(values), attributes)
        if point.state != TrialState.FAIL:
            yield point


def _why_not(study: Study, space: SearchSpace, trials: Mapping[str, Trial]) -> str:
    """Say in what those that come nearest differ."""
    if not trials:
        return " (other data)" if len(study.trials) else ""
    misfits = Counter(tuple(space.misfits(trial)) for trial in trials.values())
    nearest = min(misfits, key=lambda names: (len(names), -misfits[names]))
    return f" (the nearest differ in {' and '.join(nearest)})" if nearest else " (they failed)"
