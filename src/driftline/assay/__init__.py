"""Windows, bins, scores: pure functions from counts or rows to an analysis. No I/O."""
