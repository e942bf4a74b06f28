"""How trials learn: datasets, architectures, objectives, fused training and latent statistics.

Nothing here imports Ray, but for `trainables.tune_trainable`.
"""
