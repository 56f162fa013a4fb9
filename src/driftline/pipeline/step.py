"""What every step of a pipeline is: something that takes named arrays and gives named arrays, once an inference."""

from collections.abc import Mapping
from typing import Protocol

from driftline.errors import PermanentError
from driftline.wire.arrays import Array


def called(name: str) -> str:
    """Return how messages call a model; one that is only being checked has no name.

    >>> called("yolox"), called("")
    ("model 'yolox'", 'the model')
    """
    return f"model {name!r}" if name else "the model"


class ModelFailedError(PermanentError):
    """A model could not answer for these values; the message has its own words."""


class Step(Protocol):
    """One model in a pipeline."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...
