from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from driftline.assay.analysis import Baseline, Part, analyse
from driftline.summary.arrays import of_values
from driftline.summary.grid import Grid
from driftline.wire import api

S = 1_000_000_000
WATCHED = api.Watched(field="out.x", iopath="output x 0")


@pytest.fixture
def spec() -> Callable[..., api.AssaySpec]:
    """Makes an assay on `out.x`, under a fixed alarm or the one given; summarizer options by name."""

    def make(
        *,
        compat: str | None = "v1",
        alert: float = 0.25,
        warning: float | None = None,
        alarm: api.Promise | None = None,
        min_count: int | None = None,
        **summarizer: Any,
    ) -> api.AssaySpec:
        return api.AssaySpec(
            name="focus",
            pipeline="p",
            watched=[WATCHED],
            baseline=api.Baseline(values={WATCHED.field: [1.0]}),
            summarizer=api.Summarizer(compat=compat, **summarizer),
            alarm=alarm or api.Fixed(threshold=alert, warning=warning),
            min_count=min_count,
        )

    return make


@pytest.fixture
def ask() -> Callable[..., api.Analysis]:
    """Asks an assay about some parts of one window."""

    def make(spec: api.AssaySpec, baseline: Baseline, *parts: Part, heard: bool = True) -> api.Analysis:
        return analyse(
            spec,
            WATCHED,
            baseline,
            baseline.read(parts),
            device="camera-1",
            start_ns=0,
            end_ns=180 * S,
            heard=heard,
        )

    return make


def rows(values: ArrayLike) -> Part:
    """Return values as a part."""
    return Part(values=np.asarray(values, dtype=np.float64))


def counts(values: ArrayLike, grid: Grid, *, float32: bool = False) -> Part:
    """Return values as they are counted on a grid."""
    return Part(summary=of_values(np.asarray(values, dtype=np.float64), grid, float32=float32), grid=grid)


@pytest.fixture
def as_rows() -> Callable[..., Part]:
    return rows


@pytest.fixture
def as_counts() -> Callable[..., Part]:
    return counts
