"""Benchmarks against limits and peers: each prints a table, writes bench/results/*.json and fails where it misses."""

import os

# Small sums gain nothing from threads, and on a busy machine threads that wait for each other cost several times the
# work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
