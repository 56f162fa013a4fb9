"""The reference platform's published scores, reproduced from rows and from counts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from driftline.assay.analysis import grid_for
from driftline.assay.baseline import BaselineData
from driftline.assay.metrics import measure
from driftline.assay.metrics.psi import psi_terms
from driftline.assay.score import score
from driftline.summary.grid import quantile_grid

Make = Callable[..., Any]

# Window counts in the two bins of a baseline of three distinct values, and the published PSI.
GOLDEN = [
    ((3, 1), 0.033789),
    ((4, 1), 0.092420),
    ((5, 2), 0.010626),
    ((4, 3), 0.038616),
    ((6, 1), 0.209259),
    ((10, 1), 0.390167),
    ((11, 1), 0.426187),
    ((19, 2), 0.370987),
    ((16, 5), 0.044762),
    ((1, 0), 1.514058),
]
# As decimal text two of the three are less than the float32 nearest to them.
BASELINE = [0.35, 0.6, 0.9]
FIELD_TYPES = ["float64", "float32"]


def window(first: int, second: int):
    """Values that fall `first` times into the first bin and `second` times into the other."""
    return np.array([BASELINE[i % 2] for i in range(first)] + [BASELINE[2]] * second)


@pytest.mark.parametrize(("split", "published"), GOLDEN)
@pytest.mark.parametrize("field_type", FIELD_TYPES)
def test_published_scores_from_rows(
    split: tuple[int, int], published: float, field_type: str, spec: Make, ask: Make, as_rows: Make
):
    baseline = BaselineData.of_values(BASELINE * 7, field_type)
    analysis = ask(spec(), baseline, as_rows(window(*split)))
    assert analysis.score == pytest.approx(published, abs=5e-7)
    assert analysis.source == "rows"
    assert analysis.status == ("Alert" if published >= 0.25 else "Ok")


@pytest.mark.parametrize(("split", "published"), GOLDEN)
@pytest.mark.parametrize("field_type", FIELD_TYPES)
@pytest.mark.parametrize("known_by", ["rows", "counts"])
def test_published_scores_from_counts(
    split: tuple[int, int], published: float, field_type: str, known_by: str, spec: Make, ask: Make, as_counts: Make
):
    float32 = field_type == "float32"
    learned = quantile_grid(BASELINE, float32=float32)
    baseline = (
        BaselineData.of_values(BASELINE * 7, field_type)
        if known_by == "rows"
        else BaselineData.of_parts([as_counts(BASELINE * 7, learned, float32=float32)], field_type)
    )
    for grid in (learned, grid_for(spec(), baseline, field_type)):
        part = as_counts(window(*split), grid, float32=float32)
        analysis = ask(spec(), baseline, part)
        assert analysis.score == pytest.approx(published, abs=5e-7)
        assert analysis.source == "counts"
        assert analysis.bins is not None
        assert analysis.bins.edges_moved == 0.0


@pytest.mark.parametrize("compat", ["v1", None])
def test_one_call_gives_the_published_score(compat: str | None):
    result = score([1, 2, 3], [1, 2, 2, 3], compat=compat)
    assert result.value == pytest.approx(0.033789, abs=5e-7)
    assert result.bins.baseline == pytest.approx([0, 2 / 3, 1 / 3, 0])
    assert result.bins.window == pytest.approx([0, 3 / 4, 1 / 4, 0])


def test_published_scores_of_shares(spec: Make, ask: Make, as_rows: Make):
    baseline = BaselineData.of_values([1.0, 2.0, 3.0])
    assert ask(spec(), baseline, as_rows([1, 3, 9])).score == pytest.approx(1.609952, abs=5e-7)
    assert ask(spec(), baseline, as_rows([1, 3])).score == pytest.approx(0.115525, abs=5e-7)


def test_published_terms_of_single_bins():
    def term(b: float, w: float) -> float:
        return float(psi_terms(np.array([b]), np.array([w]))[0])

    assert term(1 / 501, 0.0) == pytest.approx(0.00275853, abs=5e-9)
    assert term(0.2, 1.0) == pytest.approx(1.28755, abs=5e-6)
    assert term(0.2, 0.0) == pytest.approx(0.719331, abs=5e-7)
    assert term(0.0, 0.0) == 0.0


def v2_baseline():
    # 500 values of which five are equal at the fourth edge: shares .2, .2, .2, .208, .192.
    values = np.arange(500.0)
    values[399:404] = 399.0
    return values


V2_WINDOW = np.repeat([50.0, 150.0, 250.0, 350.0, 450.0], [158, 178, 181, 249, 234])


def test_the_published_v2_score_from_shares_and_rows(spec: Make, ask: Make, as_rows: Make):
    shares, window_counts = np.array([0.2, 0.2, 0.2, 0.208, 0.192]), np.array([158, 178, 181, 249, 234])
    assert measure("psi", shares, window_counts / 1000).score == pytest.approx(0.030046, abs=5e-7)
    analysis = ask(spec(compat="v2"), BaselineData.of_values(v2_baseline()), as_rows(V2_WINDOW))
    assert analysis.bins is not None
    assert analysis.bins.labels == ["< 20%", "20% - 40%", "40% - 60%", "60% - 80%", "> 80%"]
    assert analysis.bins.baseline == pytest.approx([0.2, 0.2, 0.2, 0.208, 0.192])
    assert analysis.score == pytest.approx(0.030046, abs=5e-7)


@pytest.mark.parametrize("known_by", ["rows", "counts"])
def test_the_published_v2_score_from_counts(known_by: str, spec: Make, ask: Make, as_counts: Make):
    grid = quantile_grid(v2_baseline().tolist())
    baseline = (
        BaselineData.of_values(v2_baseline())
        if known_by == "rows"
        else BaselineData.of_parts([as_counts(v2_baseline(), grid)])
    )
    grid = grid_for(spec(compat="v2"), baseline, "float64")
    assert ask(spec(compat="v2"), baseline, as_counts(V2_WINDOW, grid)).score == pytest.approx(0.030046, abs=5e-7)
