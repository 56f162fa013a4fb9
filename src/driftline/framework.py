"""What a model is made with, and therefore how a device runs it."""

from enum import EnumMeta, StrEnum
from typing import NoReturn

from driftline.errors import InvalidInputError


class _Frameworks(EnumMeta):
    """Answers for frameworks there are elsewhere, such as `Framework.PYTORCH`."""

    def __getattr__(cls, name: str) -> NoReturn:
        # Python asks for names such as __wrapped__ by itself; only a framework's name is a person's question.
        if name.isupper() and not name.startswith("_"):
            raise InvalidInputError(unknown(f"Framework.{name}"))
        raise AttributeError(name)


class Framework(StrEnum, metaclass=_Frameworks):
    """How a model runs: an ONNX graph, or your own Python around whatever you like."""

    ONNX = "onnx"
    CUSTOM = "custom"

    @classmethod
    def parse(cls, given: object) -> "Framework":
        """Accept a member or its name in any case.

        >>> Framework.parse("ONNX")
        <Framework.ONNX: 'onnx'>

        Raises:
            InvalidInputError: no such framework; the message lists those that run.
        """
        for member in cls:
            if str(given).lower() in {member.value, f"framework.{member.value}"}:
                return member
        raise InvalidInputError(unknown(repr(given)))


def unknown(given: str) -> str:
    """Say that a framework does not run here, and what does."""
    known = ", ".join(f"Framework.{member.name}" for member in Framework)
    return (
        f"framework {given} does not run on driftline devices; use one of {known} "
        "(export the model to ONNX, or wrap it in a folder with a model.py as Framework.CUSTOM)"
    )
