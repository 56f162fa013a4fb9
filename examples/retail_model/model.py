"""A shelf detector as a custom model: an ONNX detector, and two numbers of its own about every picture."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime


class Model:
    """Loads `detector.onnx` from its folder; takes one BGR picture, gives what is on the shelf."""

    def load(self, folder: Path) -> None:
        """Open the detector, once."""
        self.session = onnxruntime.InferenceSession(str(folder / "detector.onnx"), providers=["CPUExecutionProvider"])
        _, _, self.height, self.width = self.session.get_inputs()[0].shape

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Detect in one picture, uint8 of shape (height, width, 3)."""
        picture = inputs["image"]
        scale = min(self.height / picture.shape[0], self.width / picture.shape[1])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas = np.full((self.height, self.width, 3), 114, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        boxes, classes, confidences = self.session.run(
            ["boxes", "classes", "confidences"], {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32)}
        )
        return {
            "boxes": boxes / np.float32(scale),
            "classes": classes,
            "confidences": confidences,
            "avg_px_intensity": np.array([picture.mean() / 255], np.float32),
            "avg_confidence": np.array([confidences.mean() if len(confidences) else 0.0], np.float32),
        }
