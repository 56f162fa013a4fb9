"""docs/operate.md: its commands are commands, and its figures are those that were measured."""

import json
import re
import shlex
from pathlib import Path

import pytest

from driftline import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "bench" / "results" / "hub.json").read_text(encoding="utf-8"))
COMMANDS = re.findall(r"^[$#] (?:sudo )?(?:\w+=\S+ )*driftline ([^#\n]*)", PAGE, re.MULTILINE)
STORES = ("sqlite", "postgres")
FIGURES = {
    "summaries acknowledged after commit, 50 a request": ("acknowledged after commit", "{:,.0f} a second"),
    "a request, 32 connections at once: median": ("a request, median", "{:.0f} ms"),
    "an answer of the API meanwhile: median": ("the API, median", "{:.0f} ms"),
    "an answer of the API meanwhile: 99th percentile": ("the API, 99th percentile", "{:.0f} ms"),
    "the 10,000 answers of a minute are stored after its end": (
        "a minute's answers are stored after its end",
        "{:.0f} s",
    ),
    "the page of one assay, a month on 10,000 devices": ("an assay's page, its data: median", "{:.0f} ms"),
    "the page of all assays": ("the page of all assays, its data: median", "{:.0f} ms"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_one(command: str):
    plain = re.sub(r"\$\([^)]*\)", "today", command)
    assert cli.parser().parse_args(shlex.split(plain)).runs


def test_there_are_commands():
    assert len(COMMANDS) > 12


def test_the_table_of_what_a_hub_bears_is_the_measured_one():
    assert RESULTS["missed"] == []
    measured = {(row["store"], row["what"]): row["value"] for row in RESULTS["rows"]}
    for words, (what, form) in FIGURES.items():
        cells = [form.format(measured[store, what]) for store in STORES]
        assert f"\n| {words} | {' | '.join(cells)} |\n" in PAGE
