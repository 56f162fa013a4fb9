"""Incidents and notifications from a notebook and from the command line, against a real hub."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from driftline import cli
from driftline.errors import ConflictError, NotAllowedError
from driftline.hub import causes, fleet
from driftline.hub.store.incidents import Part
from driftline.sdk.client import Client
from driftline.wire import api


@pytest.fixture
def known(hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    monkeypatch.setenv("DRIFTLINE_URL", hub.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ada")
    with hub.database.writing() as connection:
        for name in ("till-1", "till-2"):
            fleet.ensure_device(connection, name, hub.now_ns())
    return Client()


def opens(hub: Any, *devices: str) -> None:
    with hub.database.writing() as connection:
        for name in devices:
            part = Part(name, "silent", name, hub.now_ns(), text=f"{name} is silent")
            causes.gather(connection, part, hub.now_ns())


def test_an_incident_is_led_through_its_life(hub: Any, known: Client):
    for name in ("till-1", "till-2"):
        assert known.set_site(name, "Berlin").site == "Berlin"
    opens(hub, "till-1", "till-2")
    (one,) = known.list_incidents()
    assert (one.state, one.devices, one.site) == ("open", ["till-1", "till-2"], "Berlin")
    assert one.acknowledge("on my way").state == "acknowledged"
    assert one.incident.acknowledged_by == "ada"
    assert one.silence(timedelta(hours=1), by="Grace").state == "silenced"
    assert one.resolve().state == "resolved"
    with pytest.raises(ConflictError, match="reopen it first"):
        one.acknowledge()
    assert one.reopen().state == "silenced"
    assert known.resolve_incident(str(one.id)).state == "resolved"
    told = known.get_incident(str(one.id)).history()
    assert [(entry.change, entry.actor) for entry in told] == [
        ("opened", "hub"), ("widened", "hub"), ("acknowledged", "ada"), ("silenced", "Grace"), ("resolved", "ada"),
        ("reopened", "ada"), ("resolved", "ada"),
    ]  # fmt: skip
    assert "till-1, till-2" in known.list_incidents()._repr_html_()
    assert "on my way" in told._repr_html_()


def test_channels_are_added_tested_listed_and_removed_from_the_command_line(
    hub: Any, known: Client, receiver: str, capsys: Any, tmp_path: Path
):
    assert cli.main(["notify", "list"]) == 0
    assert "nobody is told" in capsys.readouterr().out
    assert (
        cli.main(["notify", "add", "webhook", "ops", receiver, "--kinds", "drift", "camera lost", "--wait", "0"]) == 0
    )
    said = capsys.readouterr().out
    assert "shown this once: whsec_" in said
    assert "t0ken" not in said
    assert cli.main(["notify", "test", "ops"]) == 1
    assert "--private-targets" in capsys.readouterr().err
    hub.private_targets = True
    assert cli.main(["notify", "test", "ops"]) == 0
    assert capsys.readouterr().out == "delivered: the receiver answered 200\n"
    (channel,) = known.notifications.channels()
    assert channel.subscription.kinds == ["drift", "camera lost"]

    password = tmp_path / "password"
    password.write_text("pa55word\n")
    mail = ["mail", "mail.invalid", "hub@example.org", "ada@example.org", "grace@example.org"]
    assert cli.main(["notify", "add", "email", *mail, "--user", "hub", "--password-file", str(password)]) == 0
    assert cli.main(["notify", "add", "alertmanager", "alerts", "http://alerts.invalid:9093"]) == 0
    assert cli.main(["notify", "list"]) == 0
    said = capsys.readouterr().out
    assert "mail: email, ada@example.org, grace@example.org by mail.invalid" in said
    assert "alerts: alertmanager, http://alerts.invalid:9093" in said
    assert "pa55word" not in said
    opens(hub, "till-1")
    (waiting,) = [one for one in known.notifications.sent("waiting") if one.channel == "alerts"]
    assert cli.main(["notify", "remove", "alerts"]) == 0
    assert cli.main(["notify", "list"]) == 0
    assert f"dead {waiting.id}: opened of " in capsys.readouterr().out
    assert cli.main(["notify", "retry", waiting.id]) == 1
    assert "no channel" in capsys.readouterr().err
    assert cli.main(["notify", "add", "webhook", "own", receiver, "--secret-file", str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_site_is_said_on_the_command_line(known: Client, capsys: Any):
    assert cli.main(["site", "till-1", "Berlin"]) == 0
    assert cli.main(["site", "till-1"]) == 0
    assert capsys.readouterr().out == "till-1 is at Berlin\ntill-1 is a site of its own\n"
    assert cli.main(["site", "none", "Berlin"]) == 1


def test_when_a_site_is_open_is_said_on_the_command_line(known: Client, capsys: Any):
    place = known.get_current_workspace().name
    assert cli.main(["hours", place, "Berlin", "Mon-Sat 07:00-20:00", "--time-zone", "Europe/Berlin"]) == 0
    assert cli.main(["hours", place, "Bern", "--time-zone", "Europe/Zurich"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Bern: always open (Europe/Zurich), since ")
    assert cli.main(["hours", place]) == 0
    assert "Berlin: Mon-Sat 07:00-20:00 (Europe/Berlin), since " in capsys.readouterr().out
    assert cli.main(["hours", place, "Bern", "none"]) == 0
    assert [one.site for one in known.list_sites()] == ["Berlin"]
    assert cli.main(["hours", place, "Bern", "whenever"]) == 1


def test_what_a_program_adds_is_checked(known: Client):
    known.notifications.add("ops", api.Webhook(url="https://hooks.example/"))
    with pytest.raises(ConflictError):
        known.notifications.add("ops", api.Webhook(url="https://hooks.example/"))
    pytest.importorskip("apprise")
    with pytest.raises(NotAllowedError, match="may be on any machine"):
        known.notifications.add("chat", api.Apprise(url="json://127.0.0.1/"))
