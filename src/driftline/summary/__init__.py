"""A field's mergeable summary: counts on a grid, and moments."""
