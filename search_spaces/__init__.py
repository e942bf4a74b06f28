"""What to try: the typed spec of a study, its axes and their validation. No torch, no Ray."""

from search_spaces.architecture import NAMED, Architecture, check_shape, named_architecture
from search_spaces.axes import Axes, TrainingSettings
from search_spaces.dataset import (
    ArrayDataset,
    DatasetSpec,
    IdxDataset,
    ManifoldDataset,
    Shape,
    TilesDataset,
)
from search_spaces.errors import BadInput, nearest_name
from search_spaces.optuna_strategy import Goal, OptunaStrategy
from search_spaces.points import plan_parts, plan_trials
from search_spaces.presets import preset_names, preset_path
from search_spaces.reading import dump_spec, json_schema, load_spec
from search_spaces.record import DeteriorationProbe, RecordSettings, TrajectorySettings
from search_spaces.spec import Part, ResourceSettings
from search_spaces.strategy import GridStrategy, RandomStrategy
from search_spaces.study_spec import FULL, StudySpec
from search_spaces.trial import Trial, stack_key, trial_id

__all__ = [
    "FULL",
    "NAMED",
    "Architecture",
    "ArrayDataset",
    "Axes",
    "BadInput",
    "DatasetSpec",
    "DeteriorationProbe",
    "Goal",
    "GridStrategy",
    "IdxDataset",
    "ManifoldDataset",
    "OptunaStrategy",
    "Part",
    "RandomStrategy",
    "RecordSettings",
    "ResourceSettings",
    "Shape",
    "StudySpec",
    "TilesDataset",
    "TrainingSettings",
    "TrajectorySettings",
    "Trial",
    "check_shape",
    "dump_spec",
    "json_schema",
    "load_spec",
    "named_architecture",
    "nearest_name",
    "plan_parts",
    "plan_trials",
    "preset_names",
    "preset_path",
    "stack_key",
    "trial_id",
]
