"""Tables I and II of the paper: the variance of each latent variable, and the mean of its σ².

Both are of a dense VAE with 16 latent variables at the end of training, over the full dataset.
"""

import pandas as pd

from tests.analysis.tables import trials_of, units_of

ACTIVE = 0.01  # Burda, Grosse, Salakhutdinov 2015

# Var_x[μ(x)] and mean_x[σ²(x)], unit by unit.
MNIST = (  # table I
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
TILES = (  # table II
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


def paper_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`trials` and `units` with the two trials of the paper. It reports no mean of μ, nor of μ²."""
    trials = trials_of(
        [
            {"dataset": "mnist", "architecture": "dense-256-32-24", "latent_dim": 16},
            {"dataset": "tiles", "architecture": "dense-512-256-64-32", "latent_dim": 16},
        ]
    )
    units = units_of(
        [
            {
                "trial_id": trial_id,
                "unit": unit,
                "mean_variance": mean_variance,
                "posterior_variance": posterior_variance,
                "active": mean_variance > ACTIVE,
            }
            for trial_id, table in zip(trials["trial_id"], (MNIST, TILES), strict=True)
            for unit, (mean_variance, posterior_variance) in enumerate(table)
        ]
    )
    return trials, units
