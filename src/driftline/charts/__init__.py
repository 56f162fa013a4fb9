"""Data to SVG; pages, notebooks and reports draw with the same pure functions."""
