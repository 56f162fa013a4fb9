"""What docs/compat.md shows is what comes out."""

import contextlib
import io
import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "compat.md"


def test_the_code_prints_what_the_page_says():
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})  # noqa: S102  our own page
    assert printed.getvalue() == shown
