"""ARCHITECTURE.md and README.md name what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "driftline"
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_every_module_it_names_exists():
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", ARCHITECTURE))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (PACKAGE / name).is_file()] == []


def test_it_names_every_folder_of_the_package():
    folders = {one.parent.name for one in PACKAGE.glob("*/__init__.py")}
    assert [name for name in sorted(folders) if f"  {name}/" not in ARCHITECTURE] == []


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/first-assay.md",
        "docs/compat.md",
        "docs/metrics.md",
        "docs/alarms.md",
        "docs/sync-protocol.md",
        "docs/devices.md",
        "docs/standing-assays.md",
        "CONTRIBUTING.md",
    ],
)
def test_the_files_that_a_page_links_to_are_there(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
