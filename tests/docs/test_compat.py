"""What docs/compat.md and docs/metrics.md show is what comes out."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from driftline.assay.metrics import METRICS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["compat.md", "metrics.md"])
def test_the_code_prints_what_the_page_says(page: str):
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)
    for code, shown in zip(blocks[::2], blocks[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {})  # noqa: S102  our own page
        assert printed.getvalue() == shown


def test_the_page_of_metrics_names_every_one():
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(METRICS)
