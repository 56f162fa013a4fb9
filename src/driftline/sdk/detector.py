"""How an object detector wants its picture, for `upload_model(…, detector=Detector(…))`."""

from driftline.pipeline.detector import DetectorConfig as Detector

__all__ = ["Detector"]
