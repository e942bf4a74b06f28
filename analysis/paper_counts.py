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
    "closest_with_own_beta",
    "conv_against_dense",
    "dense_pairs",
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


def paper_counts(trials: pd.DataFrame, longest: bool = True) -> pd.DataFrame:
    """Return the active units of each of the paper's nets under each setting.

    Args:
        trials: The `trials` table. Completed trials of the paper's nets at its latent dimension
            count, where the objective is the paper's, KL included.
        longest: Of each net and setting take the trials that were trained longest, and not all.

    Returns:
        One row per net, setting and number of epochs, in the paper's order: where, dataset and
        architecture; the columns that `setting_columns` names; epochs; trials; mean, fewest and
        most of their active units; law_mean, mean σ² + Var μ over all their units; paper, the
        paper's count; difference, mean - paper.
    """
    nets = [(net, trials_of_net(trials, net, longest)) for net in PAPER_NETS]
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


def closest_with_own_beta(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the same where each net may have its own β, all else equal.

    The paper does not say whether it weighs the reconstruction of both datasets, or of all nets,
    alike.

    Args:
        counts: What `paper_counts` returns.

    Returns:
        One row per net and setting but for β, of settings under which all nets were trained that
        the study has, the closest first: the rows of `counts` with the β that is nearest to the
        paper's count, the smallest of several; farthest, the largest |difference| among the nets;
        total, the sum of all.
    """
    settings = [name for name in _settings(counts) if name != "beta"]
    rows = counts.assign(off=counts["difference"].abs(), all=0)
    rows = rows.sort_values(["off", "beta"], kind="stable")
    rows = rows.drop_duplicates(["where", *settings]).sort_index()
    grouped = rows.groupby(settings or "all", dropna=False)
    rows = rows.assign(
        farthest=grouped["off"].transform("max"), total=grouped["off"].transform("sum").round(9)
    )
    rows = rows[grouped["off"].transform("size") == counts["where"].nunique()]
    order = ["farthest", "total", *settings]
    return rows.sort_values(order, kind="stable", ignore_index=True).drop(columns=["off", "all"])


def dense_pairs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's two dense nets, trained alike and equally long, each with a β of its own.

    Args:
        trials: The `trials` table.

    Returns:
        One row per setting but for β, number of epochs, β of the net on MNIST and β of that on
        tiles: the setting's columns; epochs; mnist_beta, mnist_units, tiles_beta, tiles_units, the
        mean active units; farthest, the larger |difference| to the paper's counts; law_mean, mean
        σ² + Var μ over all units of both nets' trials. First come those within one of the paper's
        counts, the nearest to the law first among them.
    """
    counts = paper_counts(trials, longest=False)
    alike = [*(name for name in _settings(counts) if name != "beta"), "epochs"]
    mnist, tiles = (counts[counts["where"] == where] for where in ("table I", "table II"))
    both = mnist.merge(tiles, on=alike, suffixes=("_mnist", "_tiles"))
    sums = [both[f"law_mean_{net}"] * both[f"trials_{net}"] for net in ("mnist", "tiles")]
    pairs = both[alike].assign(
        mnist_beta=both["beta_mnist"],
        mnist_units=both["mean_mnist"],
        tiles_beta=both["beta_tiles"],
        tiles_units=both["mean_tiles"],
        farthest=both[["difference_mnist", "difference_tiles"]].abs().max(axis=1),
        law_mean=(sums[0] + sums[1]) / (both["trials_mnist"] + both["trials_tiles"]),
    )
    near = pairs["farthest"] <= 1
    by = (pairs["law_mean"] - 1).abs().where(near, pairs["farthest"])
    order = pd.DataFrame({"far": ~near, "by": by}).sort_values(["far", "by"], kind="stable")
    return pairs.loc[order.index].reset_index(drop=True)


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


def trials_of_net(trials: pd.DataFrame, net: PaperNet, longest: bool = True) -> pd.DataFrame:
    """Return the completed trials of one of the paper's nets, those longest trained by setting."""
    valued = with_set_variance(trials)
    chosen = valued[
        (valued["status"] == "completed")
        & has_variance_part(valued)
        & (valued["dataset"] == net.dataset)
        & (valued["architecture"] == net.architecture)
        & (valued["latent_dim"] == net.latent_dim)
    ]
    if longest:
        settings = [name for name in _SETTING if chosen[name].notna().any()]
        most = chosen.groupby(settings, dropna=False)["epochs"].transform("max")
        chosen = chosen[chosen["epochs"] == most]
    return chosen.astype({"active_units": "float64"})


def _settings(counts: pd.DataFrame) -> list[str]:
    return list(counts.columns[counts.columns.get_loc("beta") : counts.columns.get_loc("epochs")])


def _counts(net: PaperNet, trials: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    groups = trials.groupby([*settings, "epochs"], dropna=False)
    found = groups["active_units"].agg(trials="size", mean="mean", fewest="min", most="max")
    # All trials of a net have as many units, so the mean over trials is that over units.
    counts: pd.DataFrame = found.assign(law_mean=groups["variance_law_mean"].mean()).reset_index()
    counts.insert(0, "where", net.where)
    counts.insert(1, "dataset", net.dataset)
    counts.insert(2, "architecture", net.architecture)
    return counts.assign(paper=net.active, difference=(counts["mean"] - net.active).round(9))
