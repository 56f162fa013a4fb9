"""Benchmarks against limits and peers: each prints a table, writes bench/results/*.json and fails where it misses."""
