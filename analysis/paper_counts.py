"""The active units of the paper's nets under every setting that a study tried, and the paper's.

The paper states no setting for its counts, so the question is for which settings they come out. A
setting is all that the study varied but the net, its data, seeds and the number of epochs: nets
that take longer per epoch are trained for fewer. Of several lengths of training the longest counts.
"""

from typing import Final

import pandas as pd

from analysis.group_words import hyperparameter_words
from analysis.groups import has_variance_part, with_set_variance
from analysis.paper import PAPER_NETS, PaperNet

__all__ = [
    "closest_settings",
    "conv_against_dense",
    "epochs_words",
    "paper_counts",
    "setting_columns",
    "setting_template",
    "setting_words",
    "trials_of_net",
]

_SETTING: Final = (
    "beta",
    "decoder",
    "decoder_variance",
    "initialisation",
    "learning_rate",
    "learning_rate_schedule",
    "batch_size",
    "precision",
)


def setting_columns(trials: pd.DataFrame) -> list[str]:
    """Name beta and whichever further hyperparameters tell settings apart."""
    valued = with_set_variance(trials)
    further = (name for name in _SETTING[1:] if valued[name].nunique(dropna=False) > 1)
    return ["beta", *further]


def paper_counts(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the active units of each of the paper's nets under each setting.

    Args:
        trials: The `trials` table. Completed trials of the paper's nets at its latent dimension
            count, where the objective is the paper's, KL included.

    Returns:
        One row per net and setting, in the paper's order: where, dataset and architecture; the
        columns that `setting_columns` names; epochs; trials; mean, fewest and most of their
        active units; paper, the paper's count; difference, mean - paper.
    """
    nets = [(net, trials_of_net(trials, net)) for net in PAPER_NETS]
    everything = pd.concat([chosen for _, chosen in nets])
    columns = setting_columns(everything)
    return pd.concat([_counts(net, chosen, columns) for net, chosen in nets], ignore_index=True)


def closest_settings(counts: pd.DataFrame) -> pd.DataFrame:
    """Return how far each setting is from the paper's counts, over all nets at once.

    Args:
        counts: What `paper_counts` returns.

    Returns:
        One row per setting under which all nets were trained that the study has, the closest
        first: the setting's columns; the mean active units of each net, in columns named after
        where the paper shows it; farthest, the largest |difference| among the nets; total, the
        sum of all. Settings are ordered by farthest, then by total.
    """
    settings, nets = _settings(counts), list(counts["where"].unique())
    rows = []
    for values, group in counts.groupby(settings, dropna=False):
        if len(group) == len(nets):
            off = group["difference"].abs()
            means = dict(zip(group["where"], group["mean"], strict=True))
            setting = dict(zip(settings, values, strict=True))
            rows.append(setting | means | {"farthest": off.max(), "total": round(off.sum(), 9)})
    found = pd.DataFrame(rows, columns=[*settings, *nets, "farthest", "total"])
    return found.sort_values(["farthest", "total"], kind="stable", ignore_index=True)


def conv_against_dense(counts: pd.DataFrame) -> pd.DataFrame:
    """Return by how much the paper's convolutional net keeps more units than its dense one.

    "With convolutional networks, sparsity is less evident" (section IV-B); the same on tiles.

    Args:
        counts: What `paper_counts` returns.

    Returns:
        One row per dataset and setting that both nets were trained under: dataset; the setting's
        columns; dense and conv, their mean active units; dense_epochs and conv_epochs, how long
        they were trained; difference, conv - dense.
    """
    conv = counts["architecture"] == "paper-conv"
    keys = ["dataset", *_settings(counts)]
    dense, convolutional = (
        counts[chosen][[*keys, "mean", "epochs"]].rename(
            columns={"mean": net, "epochs": f"{net}_epochs"}
        )
        for net, chosen in (("dense", ~conv), ("conv", conv))
    )
    both = dense.merge(convolutional, on=keys)
    both = both.astype({"dense": "float64", "conv": "float64"})  # which no row would not tell
    return both.assign(difference=both["conv"] - both["dense"])


def epochs_words(both: pd.DataFrame, net: str) -> str:
    """Say how long a net of `conv_against_dense` was trained: "15 epochs", "15 to 40 epochs"."""
    epochs = both[f"{net}_epochs"]
    first, last = int(epochs.min()), int(epochs.max())
    return f"{first} epochs" if first == last else f"{first} to {last} epochs"


def setting_template(row: pd.Series) -> tuple[str, list[str]]:
    """Put a setting into words: "β = {:g}, glorot init".

    Returns:
        A format string, and the columns of its numbers.
    """
    words, numbers = [], []
    for name in _SETTING:
        if name in row.index and not pd.isna(row[name]):
            if isinstance(row[name], str):
                words.append(hyperparameter_words(name, row[name]))
            else:
                words.append("β = {:g}" if name == "beta" else hyperparameter_words(name, "{:g}"))
                numbers.append(name)
    return ", ".join(words), numbers


def setting_words(rows: pd.DataFrame, without: str = "") -> "pd.Series[str]":
    """Return each row's setting in words, but for one hyperparameter that is shown elsewhere."""
    words = []
    for _, row in rows.drop(columns=without, errors="ignore").iterrows():
        template, numbers = setting_template(row)
        words.append(template.format(*row[numbers]) or "as in the spec")
    return pd.Series(words, index=rows.index, dtype="str")


def trials_of_net(trials: pd.DataFrame, net: PaperNet) -> pd.DataFrame:
    """Return the completed trials of one of the paper's nets, those longest trained by setting."""
    valued = with_set_variance(trials)
    chosen = valued[
        (valued["status"] == "completed")
        & has_variance_part(valued)
        & (valued["dataset"] == net.dataset)
        & (valued["architecture"] == net.architecture)
        & (valued["latent_dim"] == net.latent_dim)
    ]
    settings = [name for name in _SETTING if chosen[name].notna().any()]
    longest = chosen.groupby(settings, dropna=False)["epochs"].transform("max")
    return chosen[chosen["epochs"] == longest].astype({"active_units": "float64"})


def _settings(counts: pd.DataFrame) -> list[str]:
    return list(counts.columns[counts.columns.get_loc("beta") : counts.columns.get_loc("epochs")])


def _counts(net: PaperNet, trials: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    counts = (
        trials.groupby([*settings, "epochs"], dropna=False)["active_units"]
        .agg(trials="size", mean="mean", fewest="min", most="max")
        .reset_index()
    )
    counts.insert(0, "where", net.where)
    counts.insert(1, "dataset", net.dataset)
    counts.insert(2, "architecture", net.architecture)
    return counts.assign(paper=net.active, difference=(counts["mean"] - net.active).round(9))
