"""Schemas, field paths, steps around a model, and the observers that turn a frame into a few numbers."""
