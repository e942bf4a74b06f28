"""The counting problem in the report: tiles in generated images, dense and convolutional."""

import pandas as pd

from analysis.charts.tile_shares import tile_shares_chart
from analysis.counting import RULE, RULES, tile_trials
from analysis.group_words import beta_words, setting_labels
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.study_tables import StudyTables
from analysis.tile_shares import (
    conv_against_dense_tiles,
    mean_difference,
    tile_shares,
)

__all__ = ["counting_section"]

OFTEN = 10  # percent of the images: what is taken for the paper's "frequently"
MOST_SETTINGS = 24
_FAMILIES = {"dense": "dense", "conv": "convolutional", "linear": "linear"}
_COUNTS = (
    "from analysis import tile_counts, tile_shares, tile_trials\n"
    "there = study.samples_of(trials['trial_id'], [])['trial_id']\n"
    "tiles = tile_trials(trials[trials['trial_id'].isin(there)])\n"
    "counts = tile_counts(study.samples_of(tiles['trial_id']))\n"
)
_SHARES = f"{_COUNTS}shares = tile_shares(trials, counts)\n"


def counting_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where no trial on tiles has images."""
    counts = tables.tile_counts
    if counts.empty:
        return None
    shares = tile_shares(tables.trials, counts)
    generated = shares[shares["images_of"] == "generated"]
    blocks: list[Block] = [*_originals(counts)]
    for family in [name for name in _FAMILIES if (generated["family"] == name).any()]:
        blocks.append(_generated(generated[generated["family"] == family], family))
    blocks += _compared(tables)
    blocks += _reconstructions(shares)
    if len(generated):
        blocks += [_figure(shares), *_sensitivity(tables)]
    left_out = _left_out(tables)
    return Section("counting", "The counting problem", tuple([*blocks, *left_out]))


def _originals(counts: pd.DataFrame) -> list[Statement]:
    """Say how often the count is right where the number of tiles is known."""
    originals = counts[(counts["images_of"] == "original") & _by_rule(counts)]
    if originals.empty:
        return []
    first = originals[originals["trial_id"] == originals["trial_id"].iloc[0]]
    of_first = (
        f"{_COUNTS}known = counts[(counts['images_of'] == 'original') "
        f"& (counts['threshold'] == {RULE.threshold}) & (counts['smallest'] == {RULE.smallest})]\n"
        "known = known[known['trial_id'] == known['trial_id'].iloc[0]]\n"
    )
    return [
        Statement(
            "Tiles are counted as connected regions (sides or corners touch) of at least {:d} "
            "pixels brighter than {:g}. On test images, whose label is their number of tiles, this "
            "is right for {:,} of {:,}. Tiles of generated images that touch count as one, so the "
            "shares with more than three are rather too small.",
            (
                RULE.smallest,
                RULE.threshold,
                int(first["as_given"].sum()),
                int(first["images"].sum()),
            ),
            f"{of_first}{RULE.smallest}, {RULE.threshold}, known['as_given'].sum(), "
            "known['images'].sum()",
            warns=bool((first["as_given"] < first["images"]).any()),
        )
    ]


def _generated(shares: pd.DataFrame, family: str) -> Statement:
    """Say how many tiles a kind of net generates; the training images have one to three."""
    percent = 100 * shares[["over_three", "none", "like_training"]]
    often = int((percent["over_three"] >= OFTEN).sum())
    claim = {
        "conv": "The paper's convolutional net generates “frequently” more than three tiles. Here",
        "dense": "Generation by the paper's dense net is “quite problematic”. Here",
    }.get(family, "For comparison,")
    over = percent["over_three"]
    numbers: list[float] = [float(over.mean()), len(shares)]
    words, recipe = "under {:,} setting", "over.mean(), len(of), "
    if len(shares) > 1:
        words = "mean over {:,} settings, {:.1f}% to {:.1f}% by setting, at least {:d}% under {:,}"
        recipe += f"over.min(), over.max(), {OFTEN}, (over >= {OFTEN}).sum(), "
        numbers += [float(over.min()), float(over.max()), OFTEN, often]
    return Statement(
        f"{claim} {_FAMILIES[family]} nets put more than three tiles into {{:.1f}}% of their "
        f"images ({words}), where the training images have one to three; none into {{:.1f}}%; and "
        "{:.1f}% could be training images: one to three regions, each as large as a tile to within "
        "a pixel.",
        (*numbers, float(percent["none"].mean()), float(percent["like_training"].mean())),
        f"{_SHARES}of = shares[(shares['images_of'] == 'generated') "
        f"& (shares['family'] == {family!r})]\n"
        f"over = 100 * of['over_three']\n{recipe}"
        "100 * of['none'].mean(), 100 * of['like_training'].mean()",
        warns=family == "conv" and often == 0,
    )


def _compared(tables: StudyTables) -> list[Statement]:
    """Compare dense and convolutional nets under the settings that both were trained under."""
    statements = []
    for share, words in (
        ("over_three", "more than three tiles"),
        ("like_training", "nothing but one to three regions of a tile's size"),
    ):
        both = conv_against_dense_tiles(tables.trials, tables.tile_counts, share)
        if both.empty:
            return []
        mean, low, high = (100 * value for value in mean_difference(both))
        text = (
            f"Convolutional nets generate images with {words} more often than dense ones under "
            "{:,} and less often under {:,} of the {:,} settings that both were trained under; the "
            "mean difference is {:+.1f} percentage points"
        )
        numbers: list[float] = [
            int((both["difference"] > 0).sum()),
            int((both["difference"] < 0).sum()),
            len(both),
            mean,
        ]
        recipe = (
            "from analysis import conv_against_dense_tiles\n"
            f"from analysis.tile_shares import mean_difference\n{_COUNTS}"
            f"both = conv_against_dense_tiles(trials, counts, {share!r})\n"
            "mean, low, high = mean_difference(both)\n"
            "(both['difference'] > 0).sum(), (both['difference'] < 0).sum(), len(both), 100 * mean"
        )
        if low == low:
            text += " (95% CI over trials: {:+.1f} to {:+.1f})"
            numbers += [low, high]
            recipe += ", 100 * low, 100 * high"
        statements.append(Statement(f"{text}.", tuple(numbers), recipe, warns=not low > 0))
    return statements


def _reconstructions(shares: pd.DataFrame) -> list[Statement]:
    """Say how often reconstructions keep the number of tiles, of each kind of net."""
    statements = []
    kept = shares[shares["images_of"] == "reconstruction"]
    for family in [name for name in _FAMILIES if (kept["family"] == name).any()]:
        rows = kept[kept["family"] == family]
        percent = 100 * rows["as_given"]
        numbers: list[float] = [float(percent.mean()), int(rows["images"].sum()), len(rows)]
        words, recipe = "{:,} images, {:,} setting", "kept.mean(), of['images'].sum(), len(of)"
        if len(rows) > 1:
            words += "s: {:.1f}% to {:.1f}%"
            recipe += ", kept.min(), kept.max()"
            numbers += [float(percent.min()), float(percent.max())]
        statements.append(
            Statement(
                f"Reconstructions by {_FAMILIES[family]} nets have as many tiles as their test "
                f"images in {{:.1f}}% ({words}).",
                tuple(numbers),
                f"{_SHARES}of = shares[(shares['images_of'] == 'reconstruction') "
                f"& (shares['family'] == {family!r})]\nkept = 100 * of['as_given']\n{recipe}",
            )
        )
    return statements


def _figure(shares: pd.DataFrame) -> Figure:
    """Draw the net of each family that has most settings, the test images above it."""
    generated = shares[shares["images_of"] == "generated"]
    nets = [
        rows["architecture"].value_counts(sort=True).index[0]
        for name in _FAMILIES
        for rows in [generated[generated["family"] == name]]
        if len(rows)
    ]
    drawn = generated[generated["architecture"].isin(nets)]
    drawn = drawn.assign(
        setting=setting_labels(drawn.assign(architecture=beta_words(drawn)).drop(columns="epochs"))
    )
    drawn["net"] = drawn["architecture"]
    settings = drawn.sort_values("beta", kind="stable")["setting"].unique()
    most = ""
    if len(settings) > MOST_SETTINGS:
        most = f" ({MOST_SETTINGS} of {len(settings):,} settings, evenly spaced)"
        last = len(settings) - 1
        places = [round(i * last / (MOST_SETTINGS - 1)) for i in range(MOST_SETTINGS)]
        settings = settings[places]
    order = {setting: place for place, setting in enumerate(settings)}
    drawn = drawn[drawn["setting"].isin(order)]
    drawn = drawn.sort_values("setting", key=lambda column: column.map(order), kind="stable")
    originals = shares[shares["images_of"] == "original"].head(1)
    above = [originals.assign(net=net, setting="test images") for net in nets]
    epochs = [
        f"{net} {'–'.join(dict.fromkeys(f'{e:g}' for e in (rows.min(), rows.max())))}"
        for net in nets
        for rows in [drawn.loc[drawn["net"] == net, "epochs"]]
        if len(rows)
    ]
    return Figure(
        "tile-shares",
        f"Generated images by their number of tiles, under each setting{most}: means over trials, "
        "of each net the longest trained under a setting, with the largest latent_dim (epochs: "
        f"{', '.join(epochs)}). Blue is what the training images have, as the bar of the test "
        "images shows, grey an image without a tile, and orange more than three.",
        tile_shares_chart(pd.concat([*above, drawn], ignore_index=True)),
    )


def _sensitivity(tables: StudyTables) -> list[Block]:
    """Tell how much hangs on the rule that tiles are counted by."""
    frame = pd.concat(
        [
            tile_shares(tables.trials, tables.tile_counts, rule)
            .query("images_of == 'generated'")
            .groupby("architecture")[["none", "over_three"]]
            .mean()
            .reset_index()
            .assign(threshold=rule.threshold, smallest=rule.smallest)
            for rule in RULES
        ]
    )
    columns = ["architecture", "threshold", "smallest", "none", "over_three"]
    frame = frame[columns].sort_values(columns[:3], ignore_index=True)
    recipe = (
        f"from analysis.counting import RULES\n{_COUNTS}"
        "shares = [tile_shares(trials, counts, rule).assign(threshold=rule.threshold, "
        "smallest=rule.smallest) for rule in RULES]\n"
        "shares = pd.concat(shares).query(\"images_of == 'generated'\")\n"
        f"shares.groupby({columns[:3]})[{columns[3:]}].mean().reset_index()"
    )
    return [
        TableBlock(
            "How much hangs on the way of counting: the threshold that a tile's pixels exceed, and "
            "the smallest region that counts, in pixels (a tile has 16). Shares of generated "
            "images without a tile and with more than three, means over settings",
            frame,
            {"none": "{:.1%}", "over_three": "{:.1%}", "threshold": "{:g}"},
            recipe,
        )
    ]


def _left_out(tables: StudyTables) -> list[Statement]:
    """Say so where a study has more trials on tiles than are counted."""
    sampled = tables.trials["trial_id"].isin(tables.sample_differences["trial_id"])
    there = tables.trials[sampled & (tables.trials["dataset"] == "tiles")]
    counted, all_ = len(tile_trials(there)), len(tile_trials(there, most=len(there)))
    if counted == all_:
        return []
    return [
        Statement(
            "Counted were the images of {:,} of the {:,} trials on tiles that have images: those "
            "with the smallest seeds.",
            (counted, all_),
            f"{_COUNTS}len(tiles), (trials['trial_id'].isin(there) & (trials['dataset'] == 'tiles')"
            " & (trials['status'] == 'completed')).sum()",
        )
    ]


def _by_rule(counts: pd.DataFrame) -> "pd.Series[bool]":
    return (counts["threshold"] == RULE.threshold) & (counts["smallest"] == RULE.smallest)
