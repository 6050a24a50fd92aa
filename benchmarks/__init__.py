"""Figures, each beside its reference in the same run. `python -m benchmarks` prints all; see its `--help`."""
