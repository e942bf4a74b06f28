"""Shares of images by their number of tiles, by net and setting, and nets against each other.

A setting is all that a study varies but the net, its latent_dim, its seeds and how long it was
trained: nets that take longer per epoch are trained for fewer. Of a net under one setting the
longest trained trials count and, of these, those with the largest latent_dim.
"""

from typing import Final

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.counting import RULE, CountingRule
from analysis.group_words import naturally
from analysis.groups import group_columns, with_group_values

__all__ = ["SHARES", "conv_against_dense_tiles", "mean_difference", "tile_shares"]

SHARES: Final = ("none", "one", "two", "three", "four", "more")
"""The columns that hold the shares of images with 0, 1, 2, 3, 4 and more tiles."""

_KEPT: Final = ("over_three", "like_training", "as_given")


def tile_shares(
    trials: pd.DataFrame, counts: pd.DataFrame, rule: CountingRule = RULE
) -> pd.DataFrame:
    """Return the shares of images with so many tiles under each setting, as means over its trials.

    Args:
        trials: The `trials` table.
        counts: What `analysis.tile_counts` makes of their samples.
        rule: One of those that were counted by.

    Returns:
        One row per net, setting and kind of images, in natural order: family and architecture; the
        setting's columns, beta first; latent_dim and epochs; images_of (generated, reconstruction
        or original); trials and images, how many; none, one, two, three, four and more, the shares
        of images with 0 to 4 and with more tiles; over_three, with more than three, and
        over_three_least and over_three_most among the trials; like_training, with one to three
        regions, each of 3 to 5 pixels by 3 to 5; as_given, with the number that the original has
        (null where generated).
    """
    shares, settings = _shares_by_trial(trials, counts, rule)
    keys = ["family", "architecture", *settings, "latent_dim", "epochs", "images_of"]
    grouped = shares.groupby(keys, dropna=False, sort=False)
    means = grouped[[*SHARES, *_KEPT]].mean()
    found = pd.concat(
        [
            grouped.size().rename("trials"),
            grouped["images"].sum(),
            means,
            grouped["over_three"].min().rename("over_three_least"),
            grouped["over_three"].max().rename("over_three_most"),
        ],
        axis=1,
    )
    return found.reset_index().sort_values(keys, key=naturally, ignore_index=True)


def conv_against_dense_tiles(
    trials: pd.DataFrame, counts: pd.DataFrame, share: str = "over_three", rule: CountingRule = RULE
) -> pd.DataFrame:
    """Compare the generated images of convolutional and dense nets, setting by setting.

    Args:
        trials: The `trials` table.
        counts: What `analysis.tile_counts` makes of their samples.
        share: A share of `tile_shares`.
        rule: One of those that were counted by.

    Returns:
        One row per setting that both kinds of nets were trained under: the setting's columns; dense
        and conv, the means over their trials; difference, conv - dense; dense_trials and
        conv_trials; dense_spread and conv_spread, sums of the squared deviations from the means.
    """
    shares, settings = _shares_by_trial(trials, counts, rule)
    generated = shares[shares["images_of"] == "generated"]
    sides = []
    for family in ("dense", "conv"):
        rows = generated[generated["family"] == family].groupby(settings, dropna=False)[share]
        spread = rows.agg(lambda values: ((values - values.mean()) ** 2).sum())
        columns = {family: rows.mean(), f"{family}_trials": rows.size(), f"{family}_spread": spread}
        sides.append(pd.DataFrame(columns).reset_index())
    both = sides[0].merge(sides[1], on=settings).sort_values(settings, ignore_index=True)
    both.insert(len(settings), "difference", both["conv"] - both["dense"])
    return both


def mean_difference(both: pd.DataFrame, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean difference over settings, with a confidence interval for these settings.

    The interval is Student's, from the spread among the trials of a setting. That is pooled over
    the settings of a kind of net, since there are few trials of each; Satterthwaite's degrees of
    freedom join both kinds.

    Args:
        both: What `conv_against_dense_tiles` returns.
        confidence: Of the interval.

    Returns:
        The mean, and the interval's ends, within -1 and 1; these are NaN where no setting of one
        kind of net was repeated.
    """
    mean, variances, freedoms = float(both["difference"].mean()), [], []
    for family in ("dense", "conv"):
        trials = both[f"{family}_trials"]
        freedom = int((trials - 1).sum())
        pooled = both[f"{family}_spread"].sum() / freedom if freedom else np.nan
        variances.append(pooled * (1 / trials).sum() / len(both) ** 2)
        freedoms.append(freedom)
    total = sum(variances)
    if not total > 0:
        return mean, *((mean, mean) if total == 0 else (np.nan, np.nan))
    joined = total**2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    half = float(stdtrit(joined, (1 + confidence) / 2) * np.sqrt(total))
    return mean, max(-1.0, mean - half), min(1.0, mean + half)


def _shares_by_trial(
    trials: pd.DataFrame, counts: pd.DataFrame, rule: CountingRule
) -> tuple[pd.DataFrame, list[str]]:
    """Return a row per trial that counts and kind of images, and the columns of settings."""
    threshold, smallest = rule
    counts = counts[(counts["threshold"] == threshold) & (counts["smallest"] == smallest)]
    chosen = trials[trials["trial_id"].isin(counts["trial_id"])]
    settings = [
        name for name in group_columns(chosen) if name not in ("dataset", "architecture", "epochs")
    ]
    valued = with_group_values(chosen)
    # An architecture or a number of epochs that was drawn at random has no group value of its own.
    valued = valued.assign(architecture=chosen["architecture"], epochs=chosen["epochs"])
    for name in ("epochs", "latent_dim"):
        best = valued.groupby(["architecture", *settings], dropna=False)[name].transform("max")
        valued = valued[valued[name] == best]
    names = ["trial_id", "family", "architecture", *settings, "latent_dim", "epochs"]
    return valued[names].merge(_shares(counts), on="trial_id"), settings


def _shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per trial and kind of images, with its shares."""
    most = len(SHARES) - 1
    keys = ["trial_id", "images_of"]
    by_tiles = (
        counts.assign(tiles=counts["tiles"].clip(upper=most))
        .pivot_table(index=keys, columns="tiles", values="images", aggfunc="sum", fill_value=0)
        .reindex(columns=range(most + 1), fill_value=0)
        .set_axis(list(SHARES), axis=1)
    )
    few = counts["tiles"].between(1, 3)
    summed = ["images", "like_training", "as_given"]
    totals = counts.assign(like_training=counts["tile_like"].where(few, 0))
    totals = totals.groupby(keys)[summed].sum()
    shares = by_tiles.join(totals[["like_training", "as_given"]]).div(totals["images"], axis=0)
    shares = shares.assign(images=totals["images"], over_three=shares["four"] + shares["more"])
    shares = shares.reset_index()
    generated = shares["images_of"] == "generated"
    return shares.assign(as_given=shares["as_given"].mask(generated))
