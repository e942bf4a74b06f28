"""How a spec becomes tables: planning, running on Ray Tune, committing, and the command line.

    from study import load_study, run_study

Names are loaded on first use, so that reading tables imports neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.commands.reporting import write_report
    from study.loading import Study, list_studies, load_study
    from study.run import resume_study, run_study
    from study.tables import column_dictionary
    from study.tune_pruning import PackPruning
    from study.tune_rows import pack_rows
    from study.tune_search import PackSearcher
    from trainables.tune_trainable import PackTrainable

__all__ = [
    "PackPruning",
    "PackSearcher",
    "PackTrainable",
    "Study",
    "column_dictionary",
    "list_studies",
    "load_study",
    "pack_rows",
    "resume_study",
    "run_study",
    "write_report",
]

_MODULES = {
    "PackPruning": "study.tune_pruning",
    "PackSearcher": "study.tune_search",
    "PackTrainable": "trainables.tune_trainable",
    "Study": "study.loading",
    "column_dictionary": "study.tables",
    "list_studies": "study.loading",
    "load_study": "study.loading",
    "pack_rows": "study.tune_rows",
    "resume_study": "study.run",
    "run_study": "study.run",
    "write_report": "study.commands.reporting",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'study' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
