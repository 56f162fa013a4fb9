"""What a fixed threshold promises, against published rates and against simulation."""

from typing import Any

import numpy as np
import pytest

from driftline.assay.baseline import BaselineData
from driftline.assay.false_alarms import false_alarm_rate
from driftline.assay.metrics import METRICS
from driftline.assay.score import score
from driftline.wire.api import Summarizer


def rate(n: int, baseline: BaselineData, summarizer: Summarizer | None = None, threshold: float = 0.25) -> float:
    asked = summarizer or Summarizer()
    weights = baseline.layout(asked).weights(asked.bin_weights)
    return false_alarm_rate(asked, threshold, baseline, baseline.cut(asked, None).shares, weights, n)


# Measured on the reference platform's rules: no drift, continuous data, five quantile bins, 0.25.
@pytest.mark.parametrize(
    ("baseline_n", "n", "published"),
    [(500, 10, 0.68), (500, 20, 0.41), (500, 30, 0.19), (500, 50, 0.039), (30, 30, 0.74), (30, 10_000, 0.44)],
)
def test_rates_are_those_measured_on_the_reference_platform(baseline_n: int, n: int, published: float):
    baseline = BaselineData.of_values(np.random.default_rng(1).normal(size=baseline_n))
    assert rate(n, baseline) == pytest.approx(published, abs=0.05)


def test_a_large_window_of_a_large_baseline_never_alarms():
    assert rate(500, BaselineData.of_values(np.random.default_rng(1).normal(size=2000))) == 0


@pytest.mark.parametrize(
    ("asked", "threshold"),
    [
        ({"metric": "maxdiff"}, 0.15),
        ({"metric": "sumdiff"}, 0.25),
        ({"aggregation": "cumulative"}, 0.5),
        ({"metric": "ks"}, 0.22),
        ({"metric": "js"}, 0.3),
        ({"metric": "hellinger"}, 0.3),
        ({"metric": "chi2"}, 10.0),
        ({"metric": "wasserstein", "bins": 20}, 0.3),
        ({"metric": "mean_shift"}, 0.3),
        ({"metric": "quantile_shift", "bins": 20}, 0.6),
        ({"weights": [0, 0, 0, 0, 0, 1, 1]}, 0.05),
    ],
)
def test_every_metric_has_the_rate_of_a_simulation(asked: dict[str, Any], threshold: float):
    r = np.random.default_rng(2)
    draws = [score(r.normal(size=60), r.normal(size=30), compat="v1", **asked).value for _ in range(500)]
    measured = float(np.mean(np.array(draws) >= threshold))
    names = {"weights": "bin_weights", "bins": "num_bins"}
    chosen = {"num_bins": METRICS[asked.get("metric", "psi")].bins}
    chosen |= {names.get(name, name): value for name, value in asked.items()}
    assert 0.02 < measured < 0.9
    found = rate(30, BaselineData.of_values(r.normal(size=60)), Summarizer(**chosen), threshold)
    assert found == pytest.approx(measured, abs=0.07)


def test_a_limit_that_is_reached_again_and_again_is_not_expected_to_be_exceeded():
    # A share of clipped pixels is often exactly 0 or 1 and never beyond.
    clipped = np.clip(np.random.default_rng(3).normal(0.5, 0.5, 60), 0.0, 1.0)
    free = np.random.default_rng(3).normal(0.5, 0.5, 60)
    assert rate(200, BaselineData.of_values(clipped)) < rate(200, BaselineData.of_values(free))
