"""Studies in which Optuna chooses the points."""
