"""The device: agent, worker, recorder, sources, serving."""
