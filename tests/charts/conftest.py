from collections.abc import Callable
from typing import Any

import pytest

from driftline.wire.api import Analysis, Bins, Evidence

S = 1_000_000_000
NINE = 1_767_258_000 * S  # 2026-01-01T09:00:00Z


@pytest.fixture
def analysis() -> Callable[..., Analysis]:
    """Makes the answer for one 3-minute window of a device, the i-th from 09:00 on."""

    def make(
        device: str = "camera-1",
        i: int = 0,
        score: float | None = 0.05,
        status: str | None = None,
        *,
        width_s: int = 180,
        field: str = "out.sharpness",
        **facts: Any,
    ) -> Analysis:
        """`evidence` puts the window under a promise that alarms at 9,600; `counted` is False where windows overlap."""
        evidence, counted = facts.pop("evidence", None), facts.pop("counted", True)
        if evidence is not None:
            known = status or ("Alert" if evidence >= 9600 else "Warning" if evidence >= 960 else "Ok")
            said = Evidence(value=evidence, alarm_at=9600.0, kind="windows", counted=counted)
            own = make(device, i, score, known, width_s=width_s, field=field, **facts)
            own.alert_threshold, own.evidence = None, said
            return own
        alert, warning = facts.pop("alert", 0.25), facts.pop("warning", None)
        if status is None:
            warned = "Warning" if warning is not None and score >= warning else "Ok"
            status = "Alert" if score >= alert else warned
        return Analysis(
            assay_id=None,
            name="focus",
            iopath="output sharpness 0",
            field=field,
            device=device,
            start_ns=NINE + i * width_s * S,
            end_ns=NINE + (i + 1) * width_s * S,
            score=score,
            status=status,
            alert_threshold=alert,
            warning_threshold=warning,
            count=120,
            missing=0,
            min=0.0,
            max=1.0,
            mean=0.5,
            median=0.5,
            std=0.1,
            source="rows",
            metric=facts.pop("metric", "psi"),
            **facts,
        )

    return make


@pytest.fixture
def bins() -> Bins:
    """What a window and its baseline share, by hand."""
    return Bins(
        labels=["left_outlier", "q_50", "q_100", "right_outlier"],
        edges=[0.0, 1.0, 2.0],
        baseline=[0.0, 0.5, 0.5, 0.0],
        window=[0.0, 0.2, 0.7, 0.1],
        contributions=[0.0, 0.2749, 0.0673, 0.2846],
    )
