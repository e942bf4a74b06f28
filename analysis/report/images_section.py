"""Generated images with and without inactive units, and reconstructions, in the report."""

import pandas as pd

from analysis.charts.image_sheet import image_sheet
from analysis.groups import has_variance_part
from analysis.images import drawable, picture_address
from analysis.paper import PAPER_NETS
from analysis.report.content import Block, Figure, Section, Statement
from analysis.shown_images import IMAGES_SHOWN, MOST_SHEETS, trials_to_show
from analysis.study_tables import StudyTables

__all__ = ["images_section"]

# Of each kind of image: the columns of `samples` that are drawn, and what their rows are called.
_ROWS = {
    "generated": {"pixels": "generated", "without_inactive": "inactive units at zero"},
    "reconstruction": {"original": "test images", "pixels": "reconstructions"},
}
_FIGURES = {
    "table I": "figures 4 and 6",
    "figure 7": "figure 8",
    "table II": "figures 9 and 10",
    "figure 12": "figures 11 and 12",
}


def images_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where no trial has generated or reconstructed images."""
    if tables.shown_samples.empty:
        return None
    shown = trials_to_show(tables.trials, tables.sample_differences)
    blocks: list[Block] = [_which(tables)]
    for place, (_, trial) in enumerate(shown.iterrows(), start=1):
        samples = tables.shown_samples[tables.shown_samples["trial_id"] == trial["trial_id"]]
        blocks.append(_sheet(f"images-{place}", trial, samples))
    return Section("images", "Images", tuple(blocks))


def _which(tables: StudyTables) -> Statement:
    """Say how many trials have images and by which rule those below were chosen."""
    pictured = tables.sample_differences["kind"].isin(["generated", "reconstruction"])
    return Statement(
        "{:,} trials generated or reconstructed images. Below is one of each dataset, "
        "architecture and objective: of the trials with the most frequent likelihood the longest "
        "trained, of these, if any, those with active and inactive units, and of these the one "
        "with the highest test ELBO. At most {:d} sheets in all, and the first {:d} images of each "
        "kind.",
        (
            tables.sample_differences.loc[pictured, "trial_id"].nunique(),
            MOST_SHEETS,
            IMAGES_SHOWN,
        ),
        "samples = study.samples_of(trials['trial_id'], [])\n"
        "pictured = samples['kind'].isin(['generated', 'reconstruction'])\n"
        f"samples.loc[pictured, 'trial_id'].nunique(), {MOST_SHEETS}, {IMAGES_SHOWN}",
    )


def _sheet(name: str, trial: pd.Series, samples: pd.DataFrame) -> Figure | Statement:
    if not drawable(samples["shape"].iloc[0]):
        return Statement(
            f"The data of {trial['dataset']} are values that make no picture, so those that "
            f"{trial['architecture']} generates are not shown; by how much its inactive units "
            "change them is below."
        )
    sparse = trial["active_units"] < trial["latent_dim"]
    images = pd.concat(
        [
            pd.DataFrame(
                {
                    "row": row,
                    "place": rows["image"],
                    "address": [
                        picture_address(pixels, shape)
                        for pixels, shape in zip(rows[column], rows["shape"], strict=True)
                    ],
                    "label": rows["label"],
                }
            )
            for kind, columns in _ROWS.items()
            for column, row in columns.items()
            for rows in [samples[samples["kind"] == kind]]
            if column != "without_inactive" or sparse
        ],
        ignore_index=True,
    )
    if images["label"].isna().all():
        images = images.drop(columns="label")
    return Figure(name, _caption(trial, set(samples["kind"])), image_sheet(images))


def _caption(trial: pd.Series, kinds: set[str]) -> str:
    """Name the paper's figures, the trial and what to compare."""
    objective = "" if trial["objective"] == "elbo" else f", {trial['objective'].replace('_', ' ')}"
    words = [f"{trial['architecture']} on {trial['dataset']}{objective}{_in_paper(trial)}: "]
    words.append(
        f"β = {trial['beta']:g}, {trial['decoder'].replace('_', ' ')} likelihood, "
        f"{trial['initialisation']} initialisation, {trial['epochs']} epochs, seed "
        f"{trial['seed']}"
    )
    counted = has_variance_part(trial.to_frame().T).all()  # else no count means anything
    words.append(
        f"; {int(trial['active_units'])} of {trial['latent_dim']} units active."
        if counted
        else f"; {trial['latent_dim']} units."
    )
    if "generated" in kinds:
        if not counted:
            words.append(
                " Each generated image stands above the one from the same code with units of Var μ "
                "up to the threshold set to zero, which need not be inert here."
            )
        elif trial["active_units"] < trial["latent_dim"]:
            words.append(
                " Each generated image stands above the one from the same code with inactive units "
                "set to zero: to be alike, these units have to be inert."
            )
        else:
            words.append(" No unit is inactive, so there is nothing to set to zero.")
    if "reconstruction" in kinds:
        words.append(" Test images stand above their reconstructions from the posterior mean.")
    return "".join(words)


def _in_paper(trial: pd.Series) -> str:
    for net in PAPER_NETS:
        if (net.dataset, net.architecture) == (trial["dataset"], trial["architecture"]):
            return f" (the paper's {_FIGURES[net.where]})"
    return ""
