"""How a spec becomes tables: planning, running on Ray Tune, committing, and the command line.

`run_study` and `load_study` are the two entries from Python. Names are loaded on first use, so
that reading tables imports neither torch nor Ray.
"""
