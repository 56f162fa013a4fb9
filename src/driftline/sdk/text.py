"""Names and ids that read as text and also answer when called, as the reference platform's `model.name()` does."""


class Text(str):
    """A string that may be called for its own value, so that `model.name` and `model.name()` are the same.

    >>> Text("shelf")() == Text("shelf") == "shelf"
    True
    """

    __slots__ = ()

    def __call__(self) -> str:
        """Return the text itself."""
        return str(self)
