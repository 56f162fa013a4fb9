import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from driftline.clock import parse_iso
from driftline.errors import InvalidInputError
from driftline.hub.notify import message, schedule
from driftline.wire import api

NOW_NS = parse_iso("2026-01-01T10:00:00+00:00")


def incident(**facts: Any) -> api.Incident:
    known = {
        "id": "1a", "kind": "drift", "device": "till-1", "assay_id": "a1", "field": "out.sharpness",
        "opened_ns": parse_iso("2026-01-01T09:00:00+00:00"), "resolved_ns": None, "text": "out.sharpness has drifted",
        "devices": ["till-1"],
    }  # fmt: skip
    return api.Incident(**(known | facts))


def told(change: api.Change = "opened", actor: str = "hub", note: str = "", **facts: Any) -> api.Notification:
    return api.Notification(
        event_id="e1", change=change, number=1, at_ns=NOW_NS, actor=actor, note=note, incident=incident(**facts),
        assay="shelf light", workspace="w1",
    )  # fmt: skip


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own documentation.
    headers = message.signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_made_secret_signs_and_differs_each_time() -> None:
    one, other = message.new_secret(), message.new_secret()
    assert one != other
    key = base64.b64decode(one.removeprefix("whsec_"))
    said = message.signed(one, "e1", 7, b"body")["webhook-signature"]
    assert said == "v1," + base64.b64encode(hmac.new(key, b"e1.7.body", hashlib.sha256).digest()).decode()


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_!!!!", "password", "whsec_" + "A" * 400])
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(InvalidInputError, match="the hub makes one") as refused:
        message.secret_bytes(secret)
    assert "short" not in str(refused.value)


def test_a_cloud_event_has_what_the_specification_asks_for() -> None:
    event = msgspec.json.decode(message.cloud_event(told()))
    assert {name: event[name] for name in ("specversion", "id", "source", "type", "subject", "time")} == {
        "specversion": "1.0", "id": "e1", "source": "/api/v1/incidents/1a", "type": "driftline.incident.opened",
        "subject": "1a", "time": "2026-01-01T10:00:00+00:00",
    }  # fmt: skip
    assert event["datacontenttype"] == "application/json"
    assert msgspec.convert(event["data"], api.Notification) == told()


def test_an_alert_keeps_its_labels_all_its_life_and_says_itself_when_it_ends() -> None:
    (firing,) = msgspec.json.decode(message.alerts(told(), "http://127.0.0.1:8710"))
    over = told("resolved", resolved_ns=NOW_NS, text="over", devices=["till-1", "till-2"])
    (resolved,) = msgspec.json.decode(message.alerts(over, "http://127.0.0.1:8710"))
    assert firing["labels"] == resolved["labels"] == {
        "alertname": "DriftlineDrift", "incident": "1a", "kind": "drift", "severity": "critical",
        "assay": "shelf light",
    }  # fmt: skip
    assert firing["startsAt"] == resolved["startsAt"] == "2026-01-01T09:00:00+00:00"
    assert firing["endsAt"] == "2027-01-01T10:00:00+00:00"
    assert resolved["endsAt"] == "2026-01-01T10:00:00+00:00"
    assert firing["generatorURL"] == "http://127.0.0.1:8710/incidents/1a"
    assert resolved["annotations"]["devices"] == "till-1, till-2"


def test_words_say_who_did_what() -> None:
    said = message.lines(told("acknowledged", "Ada", "the lamp"), "http://hub/")
    assert said[:2] == ["Acknowledged: out.sharpness has drifted", "by Ada: the lamp"]
    assert said[-1] == "http://hub/incidents/1a"
    assert "until 2026-01-01 10:00 UTC" in " ".join(
        message.lines(told("silenced", "Ada", silenced_until_ns=NOW_NS), "")
    )
    silent = message.lines(told(text="silent since 2026-01-01T09:36:00+00:00", resolved_ns=NOW_NS), "")
    assert silent == ["silent since 2026-01-01 09:36 UTC", "began 2026-01-01 09:00 UTC, resolved 2026-01-01 10:00 UTC"]
    at_site = told("widened", devices=["till-1", "till-2"], site="Berlin")
    assert message.subject(at_site) == "More devices: drift (shelf light) on 2 devices at Berlin"


def test_a_test_says_that_it_is_one_and_of_no_incident() -> None:
    one = message.trial("t1", NOW_NS)
    assert message.subject(one) == "a test"
    said = message.lines(one, "http://hub/")
    assert said == ["this is a test: somebody wants to know whether notifications arrive here", "http://hub/"]
    assert "Look at it in the dashboard" not in message.html(one, "http://hub/", None)


def test_markup_in_names_is_text_in_a_mail() -> None:
    html = message.html(told(text="<script>alert(1)</script>", id='"><b>'), "http://hub", "c@d")
    assert "<script>" not in html
    assert "<b>" not in html
    assert 'src="cid:c@d"' in html


@pytest.mark.parametrize(
    ("subscription", "change", "facts", "hears"),
    [
        ({}, "opened", {}, True),
        ({"kinds": ["silent"]}, "opened", {}, False),
        ({"kinds": ["drift", "silent"]}, "opened", {}, True),
        ({"severities": ["warning"]}, "opened", {}, False),
        ({"changes": ["resolved"]}, "opened", {}, False),
        ({"workspaces": ["w2"]}, "opened", {}, False),
        ({"workspaces": ["w1", "w2"]}, "opened", {}, True),
        ({}, "widened", {"state": "silenced"}, False),
        ({}, "acknowledged", {"state": "silenced"}, False),
        ({}, "silenced", {"state": "silenced"}, True),
        ({}, "resolved", {"state": "resolved"}, True),
    ],
)
def test_a_channel_hears_of_what_it_asked_for_and_of_nothing_that_is_silenced(
    subscription: Any, change: Any, facts: Any, hears: bool
) -> None:
    assert schedule.hears(api.Subscription(**subscription), incident(**facts), "w1", change) is hears


def test_what_belongs_to_no_workspace_everybody_hears_of() -> None:
    assert schedule.hears(api.Subscription(workspaces=["w2"]), incident(kind="silent"), None, "opened")


def test_retries_fill_three_days_and_no_more() -> None:
    waited_s, tries = 0.0, 0
    while not schedule.is_dead("failed", tries := tries + 1, int(waited_s * 1e9)):
        waited_s += schedule.pause_s(tries, 0.5)
    assert 3 * 86_400 <= waited_s < 3 * 86_400 + 3600
    assert tries < schedule.TRIES_MAX
    assert sum(schedule.pause_s(one, 0.5) for one in range(1, schedule.REFUSALS_MAX)) == pytest.approx(2555)
