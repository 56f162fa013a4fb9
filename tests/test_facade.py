"""What importing driftline costs, and what its names lead to."""

import subprocess
import sys

import pytest

import driftline
from driftline.errors import InvalidInputError, MissingExtraError, by_code
from driftline.framework import Framework


def test_importing_driftline_imports_nothing_heavy():
    heavy = {"numpy", "pandas", "pyarrow", "msgspec", "onnxruntime", "cv2", "scipy"}
    code = f"import driftline, sys; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", driftline.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(driftline, name) is not None


def test_the_enums_of_an_assay_are_those_of_the_builders():
    from driftline.sdk.assay_config import SummarizerBuilder

    chosen = SummarizerBuilder().add_metric(driftline.Metric.SUMDIFF).add_bin_mode(driftline.BinMode.EQUAL)
    chosen.add_aggregation(driftline.Aggregation.CUMULATIVE)
    told = chosen.summarizer
    assert (told.metric, told.bin_mode, told.aggregation) == ("sumdiff", "equal", "cumulative")
    same = driftline.score([1, 2, 3], [1, 2, 2, 3], driftline.Metric.PSI, bin_mode=driftline.BinMode.QUANTILE)
    assert same == driftline.score([1, 2, 3], [1, 2, 2, 3])


def test_a_score_of_bins_that_are_none_says_what_they_are():
    for bins in ("5", 2.5, [None]):
        with pytest.raises(InvalidInputError, match="give a whole number of bins, or a list of edges"):
            driftline.score([1, 2], [1], bins=bins)  # pyright: ignore[reportArgumentType]  what a notebook may do


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = driftline.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_an_unknown_framework_is_told_what_runs():
    with pytest.raises(InvalidInputError, match=r"Framework\.ONNX, Framework\.CUSTOM"):
        Framework.parse("tensorflow")


def test_an_error_crosses_the_network_as_itself():
    for kind in (InvalidInputError, MissingExtraError):
        assert issubclass(by_code(kind.code), Exception)
    assert by_code("invalid") is InvalidInputError


def test_a_framework_of_elsewhere_is_named_with_the_way_out():
    with pytest.raises(InvalidInputError, match=r"Framework.PYTORCH does not run on driftline devices; use one of"):
        driftline.Framework.PYTORCH  # noqa: B018
    assert not hasattr(driftline.Framework, "__wrapped__")
