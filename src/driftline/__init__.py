"""driftline: which device drifted, since when, and why, for ML models at the edge.

Importing this package imports nothing else; each name below is loaded when it is first used, so that a device
needs no more than it runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.assay.score import Score, score
    from driftline.edge.observe import observe
    from driftline.framework import Framework
    from driftline.sdk.alarm import Fixed, Promise
    from driftline.sdk.assay_config import Aggregation, BinMode, Metric
    from driftline.sdk.client import Client
    from driftline.sdk.deployment import DeploymentConfigBuilder
    from driftline.sdk.detector import Detector

__all__ = [
    "Aggregation", "BinMode", "Client", "DeploymentConfigBuilder", "Detector", "Fixed", "Framework", "Metric",
    "Promise", "Score", "observe", "score",
]  # fmt: skip

# Where each public name lives, and which extra it needs.
_HOMES = {
    "Aggregation": ("driftline.sdk.assay_config", "sdk"),
    "BinMode": ("driftline.sdk.assay_config", "sdk"),
    "Client": ("driftline.sdk.client", "sdk"),
    "DeploymentConfigBuilder": ("driftline.sdk.deployment", "sdk"),
    "Detector": ("driftline.sdk.detector", "sdk"),
    "Fixed": ("driftline.sdk.alarm", "sdk"),
    "Framework": ("driftline.framework", ""),
    "Metric": ("driftline.sdk.assay_config", "sdk"),
    "Promise": ("driftline.sdk.alarm", "sdk"),
    "Score": ("driftline.assay.score", "sdk"),
    "observe": ("driftline.edge.observe", ""),
    "score": ("driftline.assay.score", "sdk"),
}

# Here and nowhere else: asking the installed distribution costs an agent a megabyte, and its start a tenth of a second.
__version__ = "0.0.1"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'driftline' has no attribute {name!r}")
    module, extra = _HOMES[name]
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if extra and not (error.name or "").startswith("driftline"):
            from driftline.errors import MissingExtraError

            raise MissingExtraError(f"driftline.{name}", extra) from error
        raise


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
