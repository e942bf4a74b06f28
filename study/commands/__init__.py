"""The `vae-study` command: arguments in, functions of `study` and `analysis` called, words out."""
