import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from driftline.assay.analysis import check
from driftline.assay.score import score
from driftline.errors import EmptyWindowError, InvalidInputError
from driftline.wire import api

Make = Callable[..., Any]

NAN = math.nan
X = api.Watched(field="out.x", iopath="output x 0")


def changed(spec: Make, **summarizer: Any):
    return msgspec.structs.replace(spec, summarizer=msgspec.structs.replace(spec.summarizer, **summarizer))


def test_the_defaults_of_the_compatible_call_pass(spec: Make):
    check(spec())
    check(spec(compat="v2", bin_weights=[1.0] * 5))
    check(spec(compat=None, bin_mode="provided", bin_edges=[1.0, 2.0], bin_weights=[0, 1, 0]))


@pytest.mark.parametrize(
    ("summarizer", "reason"),
    [
        ({"bin_mode": None}, "bin mode None has no published meaning.*'quantile', 'equal', 'provided'"),
        ({"bin_mode": "None"}, "no published meaning"),
        ({"bin_mode": "deciles"}, "there is no bin mode 'deciles'"),
        ({"aggregation": "edges"}, "aggregation 'edges' has no published meaning.*'density', 'cumulative'"),
        ({"aggregation": "Edges"}, "no published meaning"),
        ({"metric": "kl"}, "there is no metric 'kl'; use one of 'psi', 'sumdiff', 'maxdiff', 'ks', 'js'"),
        ({"metric": "ks", "aggregation": "cumulative"}, "no meaning for metric 'ks'; use 'density', or one of 'psi'"),
        ({"metric": "js", "bin_weights": [1.0] * 7}, "bin weights have no meaning for metric 'js'"),
        ({"compat": "v3"}, "there is no compat 'v3'"),
        ({"num_bins": 0}, "0 bins"),
        ({"num_bins": 5000}, "1 to 200"),
        ({"bin_edges": [0.0, 1.0]}, "use bin mode 'provided'"),
        ({"bin_mode": "provided"}, "needs bin edges"),
        ({"bin_mode": "provided", "bin_edges": []}, "needs bin edges"),
        ({"bin_mode": "provided", "bin_edges": [0.0, 2.0, 1.0]}, "2 is followed by 1"),
        ({"bin_mode": "provided", "bin_edges": [1.0, 1.0]}, "1 is followed by 1"),
        ({"bin_mode": "provided", "bin_edges": [0.0, NAN]}, "not all finite"),
        ({"bin_mode": "provided", "bin_edges": [0.0, math.inf]}, "the outlier bins reach that far"),
        ({"bin_weights": [1.0] * 5}, "5 bin weights were given for 7 bins with the two outlier bins"),
        ({"compat": "v2", "bin_weights": [1.0] * 7}, "7 bin weights were given for 5 bins; give one a bin"),
        ({"bin_weights": [0.0] * 7}, "add up to 0"),
        ({"bin_weights": [-1.0] + [1.0] * 6}, "0 or more"),
        ({"bin_weights": [NAN] + [1.0] * 6}, "0 or more"),
    ],
)
def test_a_summarizer_without_a_meaning_is_refused_with_the_way_out(summarizer: Any, reason: str, spec: Make):
    with pytest.raises(InvalidInputError, match=reason):
        check(changed(spec(), **summarizer))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"alarm": api.Fixed(threshold=NAN)}, "alert threshold is nan"),
        ({"alarm": api.Fixed(threshold=-0.1)}, "alert threshold is -0.1"),
        ({"alarm": api.Fixed(threshold=math.inf)}, "0.25 is usual"),
        ({"alarm": api.Fixed(warning=NAN)}, "warning threshold is nan"),
        ({"alarm": api.Fixed(warning=0.3)}, "above the alert threshold 0.25"),
        ({"alarm": api.Promise(false_alarm_every_s=3600)}, "one false alarm in 60 min is no promise where"),
        ({"alarm": api.Promise(false_alarm_every_s=10**7, min_effect=-0.1)}, "min_effect is -0.1"),
        ({"alarm": api.Promise(false_alarm_every_s=10**7, min_effect=NAN)}, "0 or more, such as 0.1"),
        ({"watched": []}, "give at least one iopath"),
        ({"watched": [X, X]}, "out.x is watched twice; name each field once"),
        ({"watched": [api.Watched(field=f"out.{i}", iopath=f"output {i} 0") for i in range(65)]}, "at most 64"),
        ({"min_count": 0}, "1 or more"),
        ({"windows": api.Windows(width_s=-180)}, "longer than nothing"),
        ({"windows": api.Windows(width_s=100)}, "e.g. 60 or 120 s"),
    ],
)
def test_alarms_fields_and_windows_that_cannot_be_are_refused(facts: Any, reason: str, spec: Make):
    with pytest.raises(InvalidInputError, match=reason):
        check(msgspec.structs.replace(spec(), **facts))


def test_a_score_of_nothing_is_no_score():
    with pytest.raises(EmptyWindowError, match="not the same as no drift"):
        score([1.0, 2.0], [])
    with pytest.raises(EmptyWindowError):
        score([1.0, 2.0], [NAN, None])
    with pytest.raises(InvalidInputError, match="no finite value"):
        score([], [1.0])
    with pytest.raises(InvalidInputError, match="window is not numeric"):
        score([1.0], ["sharp"])
    with pytest.raises(InvalidInputError, match="no metric"):
        score([1.0], [1.0], metric="kl")


def test_a_score_takes_what_notebooks_hold():
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    values = np.arange(100.0)
    expected = score(values, values[:60])
    for form in (list, tuple, pandas.Series, pyarrow.array, lambda v: v.reshape(10, -1) if v.size == 100 else v):
        assert score(form(values), form(values[:60])).value == expected.value
    assert float(expected) == expected.value
    assert score(values, values, "PSI").value == 0
    with_missing = score(values, [*values, None, NAN])
    assert (with_missing.count, with_missing.missing, with_missing.value) == (102, 2, 0.0)


def test_bins_may_be_the_edges_themselves():
    result = score(range(100), range(100), bins=[10, 50, 90], bin_mode="provided")
    assert result.bins.edges == [10, 50, 90]
    assert result.bins.baseline == pytest.approx([0.11, 0.4, 0.4, 0.09])
