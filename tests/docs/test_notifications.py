"""docs/notifications.md says what is sent, and its snippet verifies it."""

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from driftline import cli
from driftline.hub.notify import connection, mail, message, schedule
from driftline.wire import api

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ driftline (.*)$", PAGE, re.MULTILINE)
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_one(command: str):
    assert cli.parser().parse_args(shlex.split(command)).runs


def told() -> api.Notification:
    incident = api.Incident(
        id="5f0c", kind="drift", device="till-1", assay_id="a", field="out.sharpness", opened_ns=0, resolved_ns=None,
        text="…", devices=["till-1"], site="Berlin",
    )  # fmt: skip
    return api.Notification(
        event_id="e1", change="opened", number=1, at_ns=1, actor="hub", note="", incident=incident, assay="shelf light"
    )


def test_its_snippet_verifies_what_the_hub_signs_and_nothing_else():
    (snippet,) = [one for one in SNIPPETS if "def verified" in one]
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102  the page's own code
    secret, body, now_s = message.new_secret(), message.cloud_event(told()), int(time.time())
    headers = message.signed(secret, "e1", now_s, body)
    verified = names["verified"]
    assert verified(secret, headers, body)
    assert not verified(secret, headers, body + b" ")
    assert not verified(message.new_secret(), headers, body)
    assert not verified(secret, headers | {"webhook-id": "e2"}, body)
    assert not verified(secret, headers | {"webhook-timestamp": str(now_s - 10)}, body)
    assert not verified(secret, message.signed(secret, "e1", now_s - 400, body), body)
    assert [names["is_new"](headers), names["is_new"](headers)] == [True, False]


def test_the_event_it_shows_is_like_those_that_are_sent():
    (shown,) = [json.loads(one) for one in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    sent = json.loads(message.cloud_event(told()))
    assert list(shown) == list(sent)
    assert shown["type"] == sent["type"]
    for name, value in shown["data"].items():
        if name == "incident":
            assert value.items() <= sent["data"]["incident"].items()
        else:
            assert sent["data"][name] == value


def test_its_table_of_changes_is_whole():
    rows = re.search(r"\| change \| who \| what follows \|\n\|---\|---\|---\|\n(.*?)\n\n", PAGE, re.DOTALL)
    assert rows is not None
    assert tuple(row.split("|")[1].strip() for row in rows[1].splitlines()) == get_args(api.Change)


def test_its_numbers_are_those_of_the_code():
    refused_min = sum(schedule.pause_s(one, 0.5) for one in range(1, schedule.REFUSALS_MAX)) / 60
    for said in (
        f"in some {refused_min:.0f} minutes", f"within {connection.TOTAL_S:.0f} seconds", "after 5 s, 10 s, 20 s",
        f"STARTTLS at port {mail.PORTS['starttls']}", f"`--security tls` is for port {mail.PORTS['tls']}",
        "wait (30 s)",
        f"for {['', 'one day', 'two days', 'three days'][schedule.GIVES_UP_AFTER_S // 86_400]}",
    ):  # fmt: skip
        assert said in " ".join(PAGE.split()), said
    assert [schedule.pause_s(one, 0.5) for one in (1, 2, 3)] == [5, 10, 20]
