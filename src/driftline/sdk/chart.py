"""A chart as notebooks and files want it."""

from pathlib import Path


class Chart:
    """A drawing in SVG: shown by a notebook, written by `save`, text by `str`."""

    def __init__(self, svg: str) -> None:
        self._svg = svg

    def __str__(self) -> str:
        return self._svg

    def __repr__(self) -> str:
        return f"<chart, {len(self._svg)} characters of SVG; .save('chart.svg') writes it>"

    def _repr_svg_(self) -> str:
        return self._svg

    def _repr_html_(self) -> str:
        return self._svg

    def save(self, path: str | Path) -> Path:
        """Write the SVG to a file and return its path."""
        target = Path(path)
        target.write_text(self._svg, encoding="utf-8")
        return target
