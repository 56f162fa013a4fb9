"""SECURITY.md's promises that a look at the files can hold."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORT = re.compile(r"^\s*(?:import onnxruntime|from onnxruntime)", re.MULTILINE)
SWITCHED_OFF = re.compile(r"ORT_DISABLE_TELEMETRY")


def test_telemetry_is_switched_off_before_onnxruntime_is_imported_anywhere():
    sources = [
        one
        for folder in ("src", "bench", "tools", "examples", "tests")
        for one in (ROOT / folder).rglob("*.py")
        if "site-packages" not in one.parts  # the environments of peers
    ]
    importing = {one: one.read_text(encoding="utf-8") for one in sources}
    found = {one: IMPORT.search(text) for one, text in importing.items()}
    importers = {one: match for one, match in found.items() if match is not None}
    assert ROOT / "src/driftline/pipeline/onnx_step.py" in importers
    late = [
        str(one.relative_to(ROOT))
        for one, match in importers.items()
        if not SWITCHED_OFF.search(importing[one][: match.start()])
    ]
    assert late == []
