"""The tables of one study as a report takes them: what `study` reads, and `analysis` relies on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from analysis.search_goals import Search

__all__ = ["StudyTables"]


@dataclass(frozen=True, eq=False)
class StudyTables:
    """Tables of a study, finished or not.

    Attributes:
        study: Its name.
        location: Where it lies, as `load_study` takes it.
        description: What its author says of it.
        planned: Trials planned.
        trials: Committed trials.
        units: The final units of those that have any, over the training images.
        shown_units: Units of `representative_trials`, all recorded epochs and splits.
        shown_epochs: Epochs of the same trials.
        datasets: What `vae-study data describe` found out; may have no rows.
        active_variance: The spec's threshold on Var μ.
        active_kl: The spec's threshold on the KL, nats.
        spec: The resolved spec as YAML.
        versions: Versions of what trained it, by name.
        layers: Layers of one trial of each net, where they are recorded.
        probes: Rows of `probes`; none where the spec asks for no probe.
        sample_differences: `analysis.sample_differences` of the samples of all trials.
        shown_samples: The first generated and reconstructed images of `trials_to_show`.
        tile_counts: `analysis.tile_counts` of the samples of `analysis.tile_trials`.
        encodings: Rows of `encodings` of the trials whose latent space is drawn.
        grids: Rows of `samples` of the kind grid, of the same trials.
        code_statistics: What `analysis.code_statistics` says of all trials with test codes.
        search: What is sought and how; None where it is not Optuna that chooses.
        search_epochs: Epochs of the trials of `analysis.points_to_follow`.
    """

    study: str
    location: str
    description: str
    planned: int
    trials: pd.DataFrame
    units: pd.DataFrame
    shown_units: pd.DataFrame
    shown_epochs: pd.DataFrame
    datasets: pd.DataFrame
    active_variance: float
    active_kl: float
    spec: str
    versions: Mapping[str, str]
    layers: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["trial_id"]))
    probes: pd.DataFrame = field(default_factory=pd.DataFrame)
    sample_differences: pd.DataFrame = field(default_factory=pd.DataFrame)
    shown_samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    tile_counts: pd.DataFrame = field(default_factory=pd.DataFrame)
    encodings: pd.DataFrame = field(default_factory=pd.DataFrame)
    grids: pd.DataFrame = field(default_factory=pd.DataFrame)
    code_statistics: pd.DataFrame = field(default_factory=pd.DataFrame)
    search: Search | None = None
    search_epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
