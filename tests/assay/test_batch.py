"""Many windows at once give what each gives alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from driftline.assay.analysis import grid_for
from driftline.assay.baseline import BaselineData
from driftline.assay.batch import measure_summaries, score_rows, score_summaries
from driftline.assay.metrics import METRICS
from driftline.assay.statistics import NAMES, yardstick_of
from driftline.errors import InvalidInputError
from driftline.summary.arrays import of_values
from driftline.summary.grid import UNIVERSAL, Grid, quantile_grid
from driftline.summary.table import Table
from driftline.wire.api import Metric, Summarizer

Make = Callable[..., Any]

R = np.random.default_rng(1)
BASELINE = BaselineData.of_values(R.normal(size=2000))
WINDOWS = [
    R.normal(size=300), R.normal(0.5, 2, 40), np.append(R.normal(size=30), [np.nan, np.inf, -np.inf]), np.zeros(0),
    np.full(3, np.nan), np.full(25, np.inf), np.full(30, 1.0),
]  # fmt: skip
BATCHED = [metric for metric in METRICS if metric != "missing_rate"]


@pytest.mark.parametrize("metric", BATCHED)
@pytest.mark.parametrize("compat", ["v1", "v2", None])
def test_rows_and_summaries_in_a_batch_score_as_one_by_one(
    metric: Metric, compat: Any, spec: Make, ask: Make, as_rows: Make, as_counts: Make
):
    asked = spec(compat=compat, metric=metric, num_bins=METRICS[metric].bins)
    rows = score_rows(asked.summarizer, BASELINE, np.concatenate(WINDOWS), [one.size for one in WINDOWS])
    batches = [(rows, as_rows)]
    for grid in (grid_for(asked, BASELINE, "float64"), UNIVERSAL):
        summaries = Table.of([of_values(one, grid) for one in WINDOWS])
        made = score_summaries(asked.summarizer, BASELINE, summaries, grid)
        batches.append((made, lambda one, grid=grid: as_counts(one, grid)))
    for made, part in batches:
        for i, window in enumerate(WINDOWS):
            single = ask(asked, BASELINE, part(window))
            alone = np.nan if single.score is None else single.score
            assert made.scores[i] == pytest.approx(alone, rel=1e-9, abs=1e-12, nan_ok=True)
            assert (made.count[i], made.missing[i]) == (single.count, single.missing)
            if single.bins is not None:
                assert made.shares[i] == pytest.approx(single.bins.window)
                assert made.contributions[i] == pytest.approx(single.bins.contributions, abs=1e-9)
                assert made.baseline == pytest.approx(single.bins.baseline)
                assert made.moved == single.bins.edges_moved


def test_a_batch_that_does_not_fit_is_refused():
    with pytest.raises(InvalidInputError, match="add up to 3, but there are 4 values"):
        score_rows(Summarizer(), BASELINE, np.zeros(4), [1, 2])
    with pytest.raises(InvalidInputError, match="take each grid's apart"):
        score_summaries(Summarizer(), BASELINE, Table.of([of_values([1.0], UNIVERSAL)]), Grid((0.0,)))
    with pytest.raises(InvalidInputError, match="missing / count"):
        score_rows(Summarizer(metric="missing_rate"), BASELINE, np.zeros(1), [1])
    assert score_rows(Summarizer(), BASELINE, np.zeros(0), []).scores.size == 0
    assert score_summaries(Summarizer(), BASELINE, Table.of([]), UNIVERSAL).scores.size == 0


def test_a_baseline_of_counts_is_interpolated_where_a_cell_is_cut(spec: Make, ask: Make, as_counts: Make):
    counted = BaselineData.of_parts([as_counts(R.normal(size=2000), UNIVERSAL)])
    asked = spec()
    other = grid_for(asked, BASELINE, "float64")
    windows = [one for one in WINDOWS if one.size]
    made = score_summaries(asked.summarizer, counted, Table.of([of_values(one, other) for one in windows]), other)
    for i, window in enumerate(windows):
        single = ask(asked, counted, as_counts(window, other)).score
        assert made.scores[i] == pytest.approx(np.nan if single is None else single, nan_ok=True)


FIELDS = {
    "identity": R.normal(size=2000), "log": np.exp(R.normal(size=2000)), "logit": R.beta(20, 2, 2000),
    "ranks": np.exp(R.normal(size=2000)) - 5.0, "constant": np.full(500, 3.0), "counts": R.poisson(3, 900) * 1.0,
}  # fmt: skip
YARDSTICKS = {name: yardstick_of(BaselineData.of_values(values), 60) for name, values in FIELDS.items()}


def test_every_scale_is_among_these_fields():
    assert {one.scale for one in YARDSTICKS.values()} == {"identity", "log", "logit", "ranks"}


@pytest.mark.parametrize("grid", [quantile_grid(np.concatenate(list(FIELDS.values())).tolist()), UNIVERSAL])
def test_streams_measured_together_are_measured_as_one_by_one(grid: Grid, as_counts: Make):
    # Each stream has its own baseline; windows of its own kind, of another's, and awkward ones.
    streams = [
        (yardstick, as_counts(window, grid))
        for name, yardstick in YARDSTICKS.items()
        for window in [*WINDOWS, *FIELDS.values(), R.choice(FIELDS[name], 60), np.append(FIELDS[name][:40], np.nan)]
    ]
    # A baseline of counts may be cut where this grid has no edge.
    counted = BaselineData.of_parts([as_counts(FIELDS["identity"], Grid((-1.3, -0.4, 0.1, 0.7, 1.9)))])
    streams.append((yardstick_of(counted, 60), as_counts(FIELDS["identity"][:60], grid)))
    made = measure_summaries([one for one, _ in streams], Table.of([part.summary for _, part in streams]), grid)
    for found, (yardstick, part) in zip(made, streams, strict=True):
        alone = yardstick.measure([part])
        assert (found.count, found.missing) == (alone.count, alone.missing)
        assert found.values == pytest.approx(alone.values, rel=1e-9, abs=1e-12, nan_ok=True)


def test_a_usual_window_on_its_grid_is_not_measured_alone(as_counts: Make, monkeypatch: pytest.MonkeyPatch):
    def alone(*_: object) -> None:
        pytest.fail("measured alone")

    monkeypatch.setattr(type(YARDSTICKS["log"]), "measured", alone)
    grid = quantile_grid(FIELDS["log"].tolist())
    windows = [as_counts(R.choice(FIELDS["log"], 60), grid).summary for _ in range(5)]
    made = measure_summaries([YARDSTICKS["log"]] * 5, Table.of(windows), grid)
    assert [len(one.values) for one in made] == [len(NAMES)] * 5
    assert measure_summaries([], Table.of([]), grid) == []


def test_streams_of_another_grid_are_refused():
    with pytest.raises(InvalidInputError, match="take each grid's apart"):
        measure_summaries([YARDSTICKS["log"]], Table.of([of_values([1.0], UNIVERSAL)]), Grid((0.0,)))
