"""What a model is made with, and therefore how a device runs it."""

from enum import StrEnum

from driftline.errors import InvalidInputError


class Framework(StrEnum):
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
        known = ", ".join(f"Framework.{member.name}" for member in cls)
        raise InvalidInputError(
            f"framework {given!r} does not run on driftline devices; use one of {known} "
            "(export the model to ONNX, or wrap it in a folder with a model.py as Framework.CUSTOM)"
        )
