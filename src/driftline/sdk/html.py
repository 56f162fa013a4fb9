"""The few HTML fragments that notebooks show; every text is escaped here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def card(facts: Mapping[str, object]) -> str:
    """Draw names beside their values, for one object.

    >>> card({"name": "<shelf>"})
    '<table><tr><th style="text-align:left">name</th><td>&lt;shelf&gt;</td></tr></table>'
    """
    rows = (
        f'<tr><th style="text-align:left">{escape(name)}</th><td>{_cell(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Draw one row an object."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return escape(f"{value:.6g}" if isinstance(value, float) else str(value))
