"""The life of an incident, as decisions alone."""

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.clock import NS_PER_S
from driftline.errors import ConflictError, DriftlineError, InvalidInputError
from driftline.hub import life
from driftline.hub.life import Deed
from driftline.wire import api

HOUR_NS = 3600 * NS_PER_S


def incident(**facts: Any) -> api.Incident:
    known = {
        "id": "1", "kind": "silent", "device": "till-1", "assay_id": None, "field": None, "opened_ns": 0,
        "resolved_ns": None, "text": "silent",
    }  # fmt: skip
    return api.Incident(**(known | facts))


def led(*deeds: tuple[api.Change, int] | Deed, start: api.Incident | None = None) -> api.Incident:
    """Do one thing after the other, what changes nothing included."""
    now = start or incident()
    for one in deeds:
        if not isinstance(one, Deed):
            change, at_ns = one
            until_ns = at_ns + HOUR_NS if change == "silenced" else None
            one = Deed(change, at_ns, "Ada", until_ns=until_ns)  # noqa: PLW2901
        now = life.after(now, one) or now
    return now


@pytest.mark.parametrize(
    ("deeds", "state"),
    [
        ([], "open"),
        ([("acknowledged", 1)], "acknowledged"),
        ([("silenced", 1)], "silenced"),
        ([("acknowledged", 1), ("silenced", 2)], "silenced"),
        ([("acknowledged", 1), ("silenced", 2), ("unsilenced", 3)], "acknowledged"),
        ([("silenced", 2), ("unsilenced", 3)], "open"),
        ([("acknowledged", 1), ("resolved", 2)], "resolved"),
        ([("acknowledged", 1), ("resolved", 2), ("reopened", 3)], "open"),
        ([("silenced", 1), ("resolved", 2), ("reopened", 3)], "silenced"),
        ([("silenced", 1), ("resolved", 2), ("reopened", 2 * HOUR_NS)], "open"),
        ([("resolved", 1), ("resolved", 2)], "resolved"),
    ],
)
def test_its_state_follows_from_what_was_done(deeds: Any, state: str) -> None:
    assert led(*deeds).state == state


def test_who_and_when_are_kept() -> None:
    one = led(("acknowledged", 1), ("silenced", 2), ("resolved", 3))
    assert (one.acknowledged_by, one.silenced_until_ns, one.resolved_ns) == ("Ada", 2 + HOUR_NS, 3)
    again = led(("reopened", 4), start=one)
    assert (again.acknowledged_by, again.resolved_ns, again.reopened) == (None, None, 1)


def test_resolving_twice_keeps_the_first_time() -> None:
    over = led(("resolved", 1))
    assert life.after(over, Deed("resolved", 2)) is None


@pytest.mark.parametrize("change", ["acknowledged", "silenced", "unsilenced", "widened"])
def test_what_is_resolved_has_to_be_reopened_first(change: api.Change) -> None:
    with pytest.raises(ConflictError, match="reopen it first"):
        led((change, 2), start=led(("resolved", 1)))


def test_what_is_open_cannot_be_reopened() -> None:
    with pytest.raises(ConflictError, match="nothing to reopen"):
        led(("reopened", 1))


@pytest.mark.parametrize("until_s", [None, 0, -1, life.SILENCE_S_MAX + 1])
def test_a_silence_has_an_end_that_comes(until_s: int | None) -> None:
    until_ns = None if until_s is None else until_s * NS_PER_S
    with pytest.raises(InvalidInputError, match="a silence lasts"):
        life.after(incident(), Deed("silenced", 0, until_ns=until_ns))


@pytest.mark.parametrize(
    ("over", "began_ns", "same"),
    [
        ({"resolved_ns": 10 * HOUR_NS}, 11 * HOUR_NS, True),
        ({"resolved_ns": 10 * HOUR_NS}, 11 * HOUR_NS + 1, False),
        ({"resolved_ns": 10 * HOUR_NS}, 5 * HOUR_NS, True),
        ({"resolved_ns": 10 * HOUR_NS, "opened_ns": 8 * HOUR_NS}, 7 * HOUR_NS - 1, False),
        ({"resolved_ns": 10 * HOUR_NS, "settled": True}, 10 * HOUR_NS, False),
        ({"resolved_ns": None}, 10 * HOUR_NS, False),
    ],
)
def test_a_cause_that_comes_back_within_an_hour_is_the_same_incident(over: Any, began_ns: int, same: bool) -> None:
    assert life.is_same_cause(incident(**over), began_ns, life.reopens_within_ns()) is same


def test_an_assay_with_long_windows_waits_longer() -> None:
    assert life.reopens_within_ns(60) == HOUR_NS
    assert life.reopens_within_ns(86_400) == 3 * 24 * HOUR_NS


CHANGES: list[api.Change] = ["acknowledged", "silenced", "unsilenced", "resolved", "reopened", "widened"]


@given(st.lists(st.sampled_from(CHANGES), max_size=12))
def test_whatever_is_done_the_state_says_what_the_facts_say(changes: list[api.Change]) -> None:
    now = incident()
    for at, change in enumerate(changes, 1):
        until_ns = at + HOUR_NS if change == "silenced" else None
        try:
            now = life.after(now, Deed(change, at, "Ada", until_ns=until_ns)) or now
        except DriftlineError:
            continue
        assert (now.state == "resolved") == (now.resolved_ns is not None)
        assert now.state != "silenced" or now.silenced_until_ns is not None
        assert now.state != "acknowledged" or now.acknowledged_by == "Ada"
        assert msgspec.json.decode(api.encode(now), type=api.Incident) == now


def test_every_change_is_either_allowed_or_refused_in_every_state() -> None:
    for before, change in product(([], [("acknowledged", 1)], [("silenced", 1)], [("resolved", 1)]), CHANGES):
        start = led(*before)
        allowed = change in {"resolved", "reopened"} if start.state == "resolved" else change != "reopened"
        try:
            led((change, 2), start=start)
        except ConflictError:
            assert not allowed
        else:
            assert allowed
