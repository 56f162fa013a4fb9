"""The demo's report: a table, a sentence for each drifted device, results.json, charts and a page that holds them."""

import contextlib
import html
import json
import tempfile
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from driftline.charts.scores import score_chart
from driftline.clock import iso
from driftline.demo.story import FIELDS, Findings
from driftline.errors import PermanentError
from driftline.wire.api import Analysis


def finding(analyses: Iterable[Analysis]) -> list[dict[str, Any]]:
    """Name each device that drifted: since its first window in alert, by the field that said so first.

    Fields that alert in the same window are ranked by their score. Made from analyses and nothing else.
    """
    alerts = [one for one in analyses if one.status == "Alert"]
    alerts.sort(key=lambda one: (one.device, one.start_ns, -(one.score or 0.0)))
    named: list[dict[str, Any]] = []
    for device, group in groupby(alerts, key=lambda one: one.device):
        first, *others = list(group)
        fields = sorted({one.field for one in others} - {first.field})
        also = f"; so did {', '.join(fields)}" if fields else ""
        text = (
            f"{device} has drifted since {iso(first.start_ns)}: {first.field} scored {first.score:.2f} "
            f"where {first.alert_threshold:g} is the limit{also}"
        )
        named.append({"device": device, "since": iso(first.start_ns), "field": first.field, "text": text})
    return named


def results(findings: Findings) -> dict[str, Any]:
    """Return the document that results.json holds; times are ISO 8601 UTC, `score` is null where there is none."""
    return {
        "version": 1,
        "finding": finding(findings.analyses),
        "baseline": {"start": iso(findings.began_ns), "end": iso(findings.baseline_end_ns)},
        "analyses": [
            {
                "device": one.device,
                "assay": one.name,
                "field": one.field,
                "start": iso(one.start_ns),
                "end": iso(one.end_ns),
                "count": one.count,
                "missing": one.missing,
                "score": one.score,
                "threshold": one.alert_threshold,
                "status": one.status,
                "source": one.source,
                "mean": one.mean,
                "std": one.std,
            }
            for one in findings.analyses
        ],
        "incidents": [
            {
                "device": one.device,
                "field": one.field,
                "opened": iso(one.opened_ns),
                "resolved": None if one.resolved_ns is None else iso(one.resolved_ns),
                "text": one.text,
            }
            for one in findings.incidents
        ],
    }


def table(analyses: Sequence[Analysis]) -> str:
    """Return what the terminal shows: one row a device and field, one letter a window.

    `·` is Ok, `!` Alert, `?` anything that could not be judged.
    """
    letters = {"Ok": "·", "Alert": "!", "Warning": "w"}
    lines = [f"{'device':<10} {'field':<22} {'windows':<22} {'largest score':>13}  status of the last window"]
    for (device, field), group in groupby(analyses, key=lambda one: (one.device, one.field)):
        row = list(group)
        strip = "".join(letters.get(one.status, "?") for one in row)
        largest = max((one.score for one in row if one.score is not None), default=None)
        score = "–" if largest is None else f"{largest:.3f}"
        lines.append(f"{device:<10} {field:<22} {strip:<22} {score:>13}  {row[-1].status}")
    return "\n".join(lines)


def claim(folder: Path) -> None:
    """Make the report's folder and see that it can be written, before minutes of work rely on it.

    Raises:
        PermanentError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def release(folder: Path) -> None:
    """Remove a claimed folder in which nothing was written."""
    with contextlib.suppress(OSError):  # something is in it: it stays
        folder.rmdir()


def write(folder: Path, findings: Findings, dashboard: str) -> None:
    """Write report.html, results.json and one SVG a chart; other files in the folder are left alone.

    Raises:
        PermanentError: the folder cannot be written.
    """
    document = results(findings)
    charts = _charts(findings.analyses)
    try:
        for name, svg in charts.items():
            _replace(folder / name, svg)
        _replace(folder / "results.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
        _replace(folder / "report.html", _page(document["finding"], findings, charts, dashboard))
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> PermanentError:
    return PermanentError(
        f"the report cannot be written to {folder}: {error.strerror}; name another folder with --report"
    )


def _charts(analyses: Sequence[Analysis]) -> dict[str, str]:
    charts: dict[str, str] = {}
    for field in FIELDS:
        of_field = [one for one in analyses if one.field == field]
        charts[f"{field.removeprefix('out.')}.svg"] = score_chart(of_field)
        for device, group in groupby(of_field, key=lambda one: one.device):
            charts[f"{field.removeprefix('out.')}-{device}.svg"] = score_chart(list(group))
    return charts


def _page(named: Sequence[dict[str, Any]], findings: Findings, charts: dict[str, str], dashboard: str) -> str:
    said = [one["text"] for one in named] or ["No camera has drifted."]
    sentences = "".join(f"<p class=finding>{html.escape(text)}</p>" for text in said)
    pictures = "".join(f"<figure>{charts[field.removeprefix('out.') + '.svg']}</figure>" for field in FIELDS)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(cell)}</td>"
            for cell in (
                one.device,
                one.field,
                iso(one.start_ns),
                str(one.count),
                "–" if one.score is None else f"{one.score:.4f}",
                f"{one.alert_threshold:g}",
                one.status,
                one.source,
            )
        )
        + "</tr>"
        for one in findings.analyses
    )
    heads = ("device", "field", "start", "count", "score", "threshold", "status", "source")
    header = "".join(f"<th>{head}</th>" for head in heads)
    span = f"{iso(findings.began_ns)} to {iso(findings.baseline_end_ns)}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>driftline demo</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
.finding {{ font-size: 1.15rem; border-left: 4px solid #c2410c; padding-left: .8rem; }}
figure {{ margin: 2rem 0; overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; width: 100%; }}
th, td {{ text-align: left; padding: .15rem .6rem .15rem 0; border-bottom: 1px solid #8884; }}
</style></head><body>
<h1>Three cameras over a shelf</h1>
{sentences}
<p>Each camera is compared with its own first windows, {span}; a window is one whole pass of the scene.
The fault was put into the camera's frames; what stands here was read from analyses.
While the demo runs its dashboard is at <a href="{html.escape(dashboard)}">{html.escape(dashboard)}</a>.</p>
{pictures}
<details><summary>All {len(findings.analyses)} analyses</summary>
<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></details>
</body></html>
"""


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
