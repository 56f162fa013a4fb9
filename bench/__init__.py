"""Benchmarks against limits and against other rules; each prints a table and writes JSON under `bench/results`."""
