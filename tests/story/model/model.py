"""A detector small enough to read: a product is where the picture has a steep edge, and the steeper, the surer.

It takes one grey picture as a flat tensor (`HEIGHT` × `WIDTH` values from 0 to 1) and looks at it tile by tile.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np


class Model:
    """The class that driftline loads from a custom model's folder."""

    def load(self, folder: Path) -> None:
        """Read what was learned, once, before the first picture."""
        facts = json.loads((folder / "weights.json").read_text(encoding="utf-8"))
        self.height, self.width, self.tile = facts["height"], facts["width"], facts["tile"]
        self.threshold = facts["threshold"]

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Find products in one picture."""
        # Whole numbers make the same sums on every machine.
        pixels = np.rint(inputs["tensor"] * 255).astype(np.int64).reshape(self.height, self.width)
        boxes: list[list[int]] = []
        confidences: list[float] = []
        for top in range(0, self.height, self.tile):
            for left in range(0, self.width, self.tile):
                tile = pixels[top : top + self.tile, left : left + self.tile]
                steepest = int(np.abs(np.diff(tile, axis=1)).max())
                if steepest > self.threshold:
                    boxes.append([left, top, left + self.tile, top + self.tile])
                    confidences.append(steepest / 255)
        return {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "classes": np.zeros(len(boxes), np.int64),
            "confidences": np.array(confidences, np.float32),
            "avg_px_intensity": np.array([pixels.sum() / (255 * pixels.size)], np.float32),
            "avg_confidence": np.array([sum(confidences) / len(confidences) if confidences else 0.0], np.float32),
        }
