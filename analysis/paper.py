"""What the paper reports, as tables: to be put beside what a study finds.

A. Asperti, "Sparsity in Variational Autoencoders" (arXiv:1812.07238), tables I and II and figures 7
and 12. It does not say how its nets were trained: neither the weight of the reconstruction, nor
initialisation, epochs or learning rate, all of which change the counts.
"""

from typing import Final, NamedTuple

import pandas as pd

__all__ = ["PAPER_ENCODER", "PAPER_NETS", "PaperNet", "paper_units"]


class PaperNet(NamedTuple):
    """A net of the paper and how many of its latent variables were active.

    Attributes:
        where: Where the paper shows it.
        dataset: The data.
        architecture: The net, as in `trials`.
        latent_dim: Its latent variables.
        active: How many of them were active.
    """

    where: str
    dataset: str
    architecture: str
    latent_dim: int
    active: int


PAPER_NETS: Final = (
    PaperNet("table I", "mnist", "dense-256-32-24", 16, 8),
    PaperNet("figure 7", "mnist", "paper-conv", 16, 13),
    PaperNet("table II", "tiles", "dense-512-256-64-32", 16, 8),
    PaperNet("figure 12", "tiles", "paper-conv", 16, 12),
)

PAPER_ENCODER: Final = (
    ("conv2d 3x3", "14x14x16", 160),
    ("BatchNormalization", "14x14x16", 64),
    ("conv2d 3x3", "14x14x32", 4640),
    ("conv2d 3x3", "7x7x32", 9248),
    ("BatchNormalization", "7x7x32", 128),
    ("conv2d 3x3", "4x4x32", 9248),
    ("conv2d 3x3", "4x4x32", 9248),
    ("BatchNormalization", "4x4x32", 128),
    ("conv2d 3x3", "2x2x32", 4128),
    ("conv2d 3x3", "2x2x32", 4128),
    ("BatchNormalization", "2x2x32", 128),
    ("conv2d 3x3", "1x1x32", 4128),
    ("conv2d 1x1", "1x1x16", 528),
    ("conv2d 1x1", "1x1x16", 528),
)
"""Figure 7's layers with parameters: layer (type), output shape, parameters."""

# Var_x[μ(x)] and mean_x[σ²(x)] of each latent variable.
_TABLE_I: Final = (
    (8.847272e-05, 0.9802212),
    (0.00011756, 0.99551463),
    (6.665453e-05, 0.98517334),
    (0.97417927, 0.008741336),
    (0.99131817, 0.006186147),
    (1.0012343, 0.010142518),
    (0.94563377, 0.057169348),
    (0.00015841, 0.98205334),
    (0.94694275, 0.033207607),
    (0.00014789, 0.98505586),
    (1.0040375, 0.018151345),
    (0.98543876, 0.023995731),
    (0.000107441, 0.9829797),
    (4.5068125e-05, 0.998983),
    (0.00010853, 0.9604088),
    (0.9886378, 0.044405878),
)
_TABLE_II: Final = (
    (0.89744579, 0.08080574),
    (5.1123271e-05, 0.98192715),
    (0.00013507, 0.99159979),
    (0.99963027, 0.016493475),
    (6.6830005e-05, 1.01567184),
    (0.96189236, 0.053041528),
    (1.01692736, 0.012168014),
    (0.99424797, 0.037749815),
    (0.00011436, 0.96450048),
    (3.2284329e-05, 0.97153729),
    (7.3369141e-05, 1.01612401),
    (0.91368156, 0.086443416),
    (0.79746723175, 0.23826576),
    (7.9485260e-05, 0.9702732),
    (0.92481815, 0.089715622),
    (4.3311214e-05, 0.95554572),
)


def paper_units() -> pd.DataFrame:
    """Return tables I and II.

    Returns:
        One row per table and latent variable: where ("table I" or "table II"), unit,
        mean_variance (Var μ) and posterior_variance (mean σ²), over the full dataset. The paper
        reports no means of μ, "around 0 as expected".
    """
    return pd.DataFrame(
        [
            {"where": where, "unit": unit, "mean_variance": mean, "posterior_variance": posterior}
            for where, table in (("table I", _TABLE_I), ("table II", _TABLE_II))
            for unit, (mean, posterior) in enumerate(table)
        ]
    )
