"""What the tables of a study say. Reads tables only: no torch, no Ray, nothing of the trainer.

    from analysis import active_units_chart, estimate_intrinsic_dimension

Functions take the DataFrames of `study.load_study(...)`, or of `pandas.read_parquet`.
"""

from analysis.active_units import active_units_table
from analysis.activity import active_counts, threshold_sensitivity
from analysis.charts.active_units import active_units_chart
from analysis.comparison import compare_trials
from analysis.counting import count_tiles, tile_counts, tile_trials
from analysis.data_dimension import cross_checks
from analysis.deterioration import deterioration_by_trial, deterioration_course
from analysis.deterioration_groups import deterioration_by_group, deterioration_by_schedule
from analysis.dimension_by_beta import beta_of_drops, dimension_by_beta
from analysis.final_units import final_units
from analysis.group_words import describe_group
from analysis.groups import group_columns
from analysis.importance import hyperparameter_importance
from analysis.inert_units import inert_units, sample_differences
from analysis.intrinsic_dimension import (
    describe_estimate,
    estimate_by_rule,
    estimate_intrinsic_dimension,
)
from analysis.latent_codes import code_statistics, code_table, sampling_pairs
from analysis.law_residuals import residual_by
from analysis.law_units import law_units
from analysis.normality import (
    axis_ratio,
    henze_zirkler,
    mardia_kurtosis,
    mardia_skewness,
    prior_covered,
    prior_kl,
)
from analysis.paired_effects import paired_effects
from analysis.paper_claims import paper_claims
from analysis.paper_counts import (
    closest_settings,
    closest_with_own_beta,
    conv_against_dense,
    dense_pairs,
    paper_counts,
)
from analysis.paper_layers import beside_figure_7
from analysis.paper_table import beside_paper_table
from analysis.points_to_follow import points_to_follow
from analysis.probabilistic_pca import linear_answers, pca_dimension
from analysis.pruning import points_by_epoch, pruning_savings, values_by_epoch
from analysis.search_goals import Constraint, Goal, Search
from analysis.search_points import best_so_far, pareto_front, search_points, seed_spread
from analysis.sparsity_controls import sparsity_of_controls, units_in_use
from analysis.tile_shares import conv_against_dense_tiles, tile_shares
from analysis.variance_law import law_by_group, law_by_trial, law_controls, law_overall

__all__ = [
    "Constraint",
    "Goal",
    "Search",
    "active_counts",
    "active_units_chart",
    "active_units_table",
    "axis_ratio",
    "beside_figure_7",
    "beside_paper_table",
    "best_so_far",
    "beta_of_drops",
    "closest_settings",
    "closest_with_own_beta",
    "code_statistics",
    "code_table",
    "compare_trials",
    "conv_against_dense",
    "conv_against_dense_tiles",
    "count_tiles",
    "cross_checks",
    "dense_pairs",
    "describe_estimate",
    "describe_group",
    "deterioration_by_group",
    "deterioration_by_schedule",
    "deterioration_by_trial",
    "deterioration_course",
    "dimension_by_beta",
    "estimate_by_rule",
    "estimate_intrinsic_dimension",
    "final_units",
    "group_columns",
    "henze_zirkler",
    "hyperparameter_importance",
    "inert_units",
    "law_by_group",
    "law_by_trial",
    "law_controls",
    "law_overall",
    "law_units",
    "linear_answers",
    "mardia_kurtosis",
    "mardia_skewness",
    "paired_effects",
    "paper_claims",
    "paper_counts",
    "pareto_front",
    "pca_dimension",
    "points_by_epoch",
    "points_to_follow",
    "prior_covered",
    "prior_kl",
    "pruning_savings",
    "residual_by",
    "sample_differences",
    "sampling_pairs",
    "search_points",
    "seed_spread",
    "sparsity_of_controls",
    "threshold_sensitivity",
    "tile_counts",
    "tile_shares",
    "tile_trials",
    "units_in_use",
    "values_by_epoch",
]
