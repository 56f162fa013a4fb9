"""The demo's report: a table, a sentence for each drifted device, results.json, charts and a page that holds them."""

import contextlib
import html
import json
import tempfile
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from driftline.assay.magnitude import BEGAN
from driftline.charts.findings import what_moved
from driftline.charts.scores import compared_chart
from driftline.clock import iso
from driftline.demo.story import EVERY, FIELDS, Findings
from driftline.errors import PermanentError
from driftline.wire.api import Analysis


def finding(analyses: Iterable[Analysis]) -> list[dict[str, Any]]:
    """Name each device that drifted: since when, by the field that said so first.

    Fields that alert in the same window are ranked by how much they say. Made from analyses and nothing else.
    """
    every = sorted(analyses, key=lambda one: (one.device, one.start_ns))
    named: list[dict[str, Any]] = []
    for device, group in groupby(every, key=lambda one: one.device):
        own = list(group)
        alerts = sorted((one for one in own if one.status == "Alert"), key=lambda one: (one.start_ns, -_said(one)))
        if not alerts:
            continue
        first, *others = alerts
        since_ns = _began_ns([one for one in own if one.field == first.field and one.start_ns <= first.start_ns])
        fields = sorted({one.field for one in others} - {first.field})
        also = f"; so did {', '.join(fields)}" if fields else ""
        text = f"{device} has drifted since {iso(since_ns)}: {first.field} {_why(first)}{also}"
        named.append({"device": device, "since": iso(since_ns), "field": first.field, "text": text})
    return named


def _said(alert: Analysis) -> float:
    # By residuals where there is evidence: that stops growing at ten times the level of an alarm.
    if alert.evidence is not None:
        return max(map(abs, alert.evidence.residuals.values()), default=0.0)
    return alert.score or 0.0


def _began_ns(upto_alert: Sequence[Analysis]) -> int:
    """Return when the evidence began to grow that made the last of these windows an Alert."""
    began_ns = upto_alert[-1].start_ns
    for one in reversed(upto_alert[:-1]):
        if one.evidence is None or one.evidence.value < BEGAN:
            break
        began_ns = one.start_ns
    return began_ns


def _why(alert: Analysis) -> str:
    if alert.evidence is None:
        return f"scored {alert.score:.2f} where {alert.alert_threshold:g} is the limit"
    moved = what_moved(alert)
    evidence = f"evidence {alert.evidence.value:,.0f} where {alert.evidence.alarm_at:,.0f} make an alarm"
    return f"{evidence}; {moved}" if moved else evidence


def results(findings: Findings) -> dict[str, Any]:
    """Return the document that results.json holds; times are ISO 8601 UTC, `score` is null where there is none."""
    return {
        "version": 1,
        "false_alarm_every": EVERY,
        "finding": finding(findings.analyses),
        "finding_fixed": finding(findings.fixed),
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
                "evidence": None if one.evidence is None else one.evidence.value,
                "alarm_at": None if one.evidence is None else one.evidence.alarm_at,
                "status": one.status,
                "threshold_fixed": fixed.alert_threshold,
                "status_fixed": fixed.status,
                "source": one.source,
                "mean": one.mean,
                "std": one.std,
            }
            for one, fixed in zip(findings.analyses, findings.fixed, strict=True)
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


def table(findings: Findings) -> str:
    """Return what the terminal shows: one row a device and field, one letter a window.

    `·` is Ok, `w` Warning, `!` Alert, `?` what could not be judged; by the promise, and by the fixed threshold.
    """
    head = f"{'device':<10} {'field':<22} {'by the promise':<20} {'most evidence':>13}  "
    lines = [head + f"{f'by {_limit(findings)}':<20} {'largest score':>13}"]
    fixed = {key: list(group) for key, group in groupby(findings.fixed, key=lambda one: (one.device, one.field))}
    for key, group in groupby(findings.analyses, key=lambda one: (one.device, one.field)):
        row = list(group)
        evidence = max((one.evidence.value for one in row if one.evidence is not None), default=None)
        score = max((one.score for one in fixed[key] if one.score is not None), default=None)
        lines.append(
            f"{key[0]:<10} {key[1]:<22} {_strip(row):<20} {'–' if evidence is None else f'{evidence:,.1f}':>13}  "
            f"{_strip(fixed[key]):<20} {'–' if score is None else f'{score:.3f}':>13}"
        )
    level = next((one.evidence.alarm_at for one in findings.analyses if one.evidence is not None), None)
    if level is not None:
        lines.append(
            f"An alarm takes evidence of {level:,.0f}: one false alarm in {EVERY} over all cameras and fields."
        )
    return "\n".join(lines)


def _strip(row: Iterable[Analysis]) -> str:
    letters = {"Ok": "·", "Alert": "!", "Warning": "w"}
    return "".join(letters.get(one.status, "?") for one in row)


def _limit(findings: Findings) -> str:
    first = next(iter(findings.fixed), None)
    return "a threshold" if first is None or first.alert_threshold is None else f"score > {first.alert_threshold:g}"


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
    charts = _charts(findings)
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


def _charts(findings: Findings) -> dict[str, str]:
    charts: dict[str, str] = {}
    for field in FIELDS:
        promised, fixed = (
            [one for one in group if one.field == field] for group in (findings.analyses, findings.fixed)
        )
        name = field.removeprefix("out.")
        charts[f"{name}.svg"] = compared_chart(promised, fixed)
        for device in dict.fromkeys(one.device for one in promised):
            own = ([one for one in group if one.device == device] for group in (promised, fixed))
            charts[f"{name}-{device}.svg"] = compared_chart(*own)
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
                "–" if one.evidence is None else f"{one.evidence.value:,.1f}",
                one.status,
                fixed.status,
                one.source,
            )
        )
        + "</tr>"
        for one, fixed in zip(findings.analyses, findings.fixed, strict=True)
    )
    heads = ("device", "field", "start", "count", "score", "evidence", "status", f"by {_limit(findings)}", "source")
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
<p>The assay promises one false alarm in {EVERY} over all cameras and fields together; below the evidence is what a
fixed threshold makes of the same windows.
Each camera is compared with its own first windows, {span}; a window is one whole pass of the scene.
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
