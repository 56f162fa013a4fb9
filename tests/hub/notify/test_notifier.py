"""The outbox and the notifier, with a real hub's database, real receivers, and time that moves when told to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driftline.clock import NS_PER_S
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError, NotAllowedError
from driftline.hub import causes, incident_routes
from driftline.hub.life import Deed
from driftline.hub.notify import chart, routes, schedule
from driftline.hub.notify.connection import Network
from driftline.hub.notify.notifier import Round
from driftline.hub.store import incidents as incident_store
from driftline.hub.store import notifications as store
from driftline.hub.store.incidents import Part
from driftline.wire import api
from tests.hub.shop import Shop, ns


@pytest.fixture
def shop(tmp_path: Path, network: Network) -> Iterator[Any]:
    """A hub that nobody asks over the network, with a notifier whose time stands still."""
    made = Shop.open(tmp_path)
    made.hub.private_targets = True
    made.device("till-1")
    made.device("till-2")
    for name in ("till-1", "till-2"):
        made.says(name, site="Berlin")
    made.real_ns = 1_000 * NS_PER_S
    made.round = Round(made.hub, network, real_ns=lambda: made.real_ns, chance=lambda: 0.5)
    yield made
    made.round.close()
    made.hub.database.close()


def hook(shop: Any, url: str, **facts: Any) -> api.Channel:
    new = api.NewChannel(**({"name": "ops", "target": api.Webhook(url=url), "wait_s": 0} | facts))
    return routes.make(shop.hub, new)


def goes_silent(shop: Any, device: str = "till-1") -> api.Incident:
    with shop.hub.database.writing() as connection:
        causes.gather(connection, Part(f"p-{device}", "silent", device, ns(1), text=f"{device} is silent"), ns(1))
        return incident_store.listed(connection)[0]


def later(shop: Any, seconds: float) -> None:
    shop.real_ns += int(seconds * NS_PER_S)


def outbox(shop: Any, **wanted: Any) -> list[api.Delivery]:
    with shop.hub.database.reading() as connection:
        return store.deliveries(connection, **wanted)


def changes(receiver: Any) -> list[str]:
    return [msgspec.json.decode(one.body)["data"]["change"] for one in receiver.received]


def test_what_happens_is_told_once_in_order_and_signed(shop: Any, receiver: Any) -> None:
    made = hook(shop, receiver.url)
    assert made.secret is not None
    incident = goes_silent(shop)
    incident_routes.do(shop.hub, incident.id, "acknowledged", api.Act(by="Ada", note="on my way"))
    incident_routes.do(shop.hub, incident.id, "resolved", api.Act(by="Ada"))
    while shop.round.run():
        pass
    assert changes(receiver) == ["opened", "acknowledged", "resolved"]
    with shop.hub.database.reading() as connection:
        history = incident_store.history(connection, incident.id)
    assert [one.headers["webhook-id"] for one in receiver.received] == [one.event_id for one in history]
    assert [(one.change, one.actor, one.note) for one in history] == [
        ("opened", "hub", ""), ("acknowledged", "Ada", "on my way"), ("resolved", "Ada", ""),
    ]  # fmt: skip
    assert {(one.state, one.attempts, one.reason) for one in outbox(shop)} == {
        ("delivered", 1, "the receiver answered 204")
    }
    assert shop.round.run() is False


def test_a_transaction_that_fails_tells_nobody(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)

    def fails() -> None:
        with shop.hub.database.writing() as connection:
            causes.gather(connection, Part("p", "silent", "till-1", ns(1), text="t"), ns(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert outbox(shop) == []


def test_devices_that_alarm_together_are_told_of_together(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url, wait_s=30)
    goes_silent(shop)
    shop.round.run()
    goes_silent(shop, "till-2")
    later(shop, 29)
    shop.round.run()
    assert receiver.received == []
    later(shop, 2)
    shop.round.run()
    (got,) = receiver.received
    data = msgspec.json.decode(got.body)["data"]
    assert (data["change"], data["incident"]["devices"]) == ("opened", ["till-1", "till-2"])
    assert data["incident"]["text"] == "till-1 is silent; also on till-2 at Berlin"


def test_a_device_that_joins_later_is_told_of_with_an_event_of_its_own(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)
    goes_silent(shop)
    shop.round.run()
    goes_silent(shop, "till-2")
    shop.round.run()
    assert changes(receiver) == ["opened", "widened"]
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 2


def test_a_receiver_that_fails_is_asked_again_later_with_the_same_event(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)
    receiver.statuses, receiver.words = [503, 429], b"busy\nnow"
    receiver.headers = {"Retry-After": "60"}
    incident = goes_silent(shop)
    incident_routes.do(shop.hub, incident.id, "acknowledged", api.Act())
    shop.round.run()
    (waits,) = [one for one in outbox(shop) if one.attempts]
    assert (waits.state, waits.reason) == ("waiting", "the receiver answered 503: busy now")
    assert waits.due_ns == shop.real_ns + 60 * NS_PER_S
    assert shop.round.run() is False, "nothing of this incident goes before what came first"
    for seconds in (59, 2, 61):
        later(shop, seconds)
        shop.round.run()
    shop.round.run()
    assert changes(receiver) == ["opened"] * 3 + ["acknowledged"]
    assert len({one.headers["webhook-id"] for one in receiver.received[:3]}) == 1
    assert len({one.headers["webhook-signature"] for one in receiver.received[:3]}) == 3, "each at its own time"


def test_what_is_refused_again_and_again_is_given_up_and_can_be_tried_again(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)
    receiver.statuses = [404] * schedule.REFUSALS_MAX
    goes_silent(shop)
    for _ in range(schedule.REFUSALS_MAX):
        assert shop.round.run()
        later(shop, 3600)
    assert shop.round.run() is False
    (dead,) = outbox(shop, state="dead")
    assert (dead.attempts, dead.reason) == (schedule.REFUSALS_MAX, "the receiver answered 404")
    routes.retry(shop.hub, dead.id)
    assert shop.round.run()
    (done,) = outbox(shop)
    assert (done.state, done.attempts) == ("delivered", 1)
    with pytest.raises(ConflictError, match="was delivered"):
        routes.retry(shop.hub, dead.id)
    with pytest.raises(EntityNotFoundError):
        routes.retry(shop.hub, "none")


def test_who_does_not_answer_for_three_days_is_given_up(shop: Any) -> None:
    hook(shop, "http://127.0.0.1:9/")
    goes_silent(shop)
    shop.round.run()
    later(shop, 3 * 86_400)
    shop.round.run()
    (dead,) = outbox(shop)
    assert (dead.state, "does not answer at port 9" in dead.reason) == ("dead", True)


def test_what_a_notifier_took_that_is_no_more_is_sent_again_when_its_claim_is_over(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)
    goes_silent(shop)
    with shop.hub.database.writing() as connection:
        store.stamp(connection, shop.real_ns)
        (taken,) = store.claim(connection, shop.real_ns, shop.real_ns + 80 * NS_PER_S, 10)
    assert shop.round.run() is False
    later(shop, 81)
    assert shop.round.run()
    assert [one.headers["webhook-id"] for one in receiver.received] == [taken.notification.event_id]


def test_one_channel_that_hangs_does_not_hold_up_the_others(shop: Any, receiver: Any, mail_server: Any) -> None:
    box = mail_server()
    shop.round.network = Network(private=True, total_s=0.5)
    hook(shop, receiver.url)
    email = api.Email(host="127.0.0.1", port=box.port, sender="hub@example.org", to=["a@example.org"], security="none")
    hook(shop, "", name="mail", target=email)
    receiver.hold.clear()
    goes_silent(shop)
    shop.round.run()
    states = {one.channel: one.state for one in outbox(shop)}
    assert states == {"ops": "waiting", "mail": "delivered"}
    assert [one["X-Driftline-Event"] for one in box.mails] == [outbox(shop)[0].event_id]


def test_a_chart_that_cannot_be_drawn_does_not_hold_up_its_mail(
    shop: Any, mail_server: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def fails(*_: object) -> bytes:
        raise RuntimeError("no ink")

    monkeypatch.setattr(chart, "of", fails)
    box = mail_server()
    email = api.Email(host="127.0.0.1", port=box.port, sender="hub@example.org", to=["a@example.org"], security="none")
    hook(shop, "", name="mail", target=email)
    goes_silent(shop)
    shop.round.run()
    assert [one.state for one in outbox(shop)] == ["delivered"]
    assert "no ink" in capfd.readouterr().err


def test_nothing_is_told_of_what_is_silenced_until_its_silence_ends_or_it_does(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)
    incident = goes_silent(shop)
    incident_routes.do(shop.hub, incident.id, "silenced", api.Silence(for_s=3600, by="Ada"))
    goes_silent(shop, "till-2")
    with shop.hub.database.writing() as connection:
        causes.end_silences(connection, ns(59))
        causes.end_silences(connection, ns(61))
        causes.end_silences(connection, ns(62))
    while shop.round.run():
        pass
    assert changes(receiver) == ["opened", "silenced", "unsilenced"]


def test_a_channel_that_is_removed_gives_up_what_waits(shop: Any) -> None:
    made = hook(shop, "http://127.0.0.1:9/")
    goes_silent(shop)
    routes.remove(shop.hub, made.name)
    (dead,) = outbox(shop)
    assert (dead.state, dead.channel, dead.reason) == ("dead", "(removed)", "its channel was removed")
    with pytest.raises(EntityNotFoundError, match="no channel"):
        routes.retry(shop.hub, dead.id)


def test_what_was_given_in_confidence_is_never_shown(shop: Any, capfd: Any) -> None:
    secret = "whsec_" + "c2VjcmV0" * 4
    hook(shop, "https://hooks.invalid/T1/B2/t0ken", target=api.Webhook("https://hooks.invalid/T1/t0ken", secret))
    password = {"user": "ada", "password": "pa55word"}
    mail = api.Email(host="mail.invalid", sender="a@b.org", to=["c@d.org"], **password)
    hook(shop, "", name="mail", target=mail)
    hook(shop, "", name="alerts", target=api.Alertmanager("https://alerts.invalid", **password))
    goes_silent(shop)
    shop.round.network = Network(resolve=lambda *_: [])
    shop.round.run()
    said = [api.encode(shop.call(routes.list_channels)), api.encode(outbox(shop))]
    said += [api.encode(routes.tried(shop.hub, name)) for name in ("ops", "mail", "alerts")]
    told = b" ".join(said).decode() + "".join(capfd.readouterr())
    for one in (secret, "t0ken", "pa55word", "c2VjcmV0"):
        assert one not in told
    assert "https://hooks.invalid/…" in told


def test_a_secret_that_the_hub_made_is_told_once(shop: Any, receiver: Any) -> None:
    made = hook(shop, receiver.url)
    assert str(made.secret).startswith("whsec_")
    (listed,) = shop.call(routes.list_channels)
    assert listed.secret is None
    assert (
        hook(shop, receiver.url, name="own", target=api.Webhook(receiver.url, "whsec_" + "c2VjcmV0" * 4)).secret is None
    )


def test_a_test_says_in_words_what_happened(shop: Any, receiver: Any) -> None:
    hook(shop, receiver.url)
    assert shop.call(routes.test_channel, channel="ops") == api.Tried(delivered=True, text="the receiver answered 204")
    receiver.statuses = [301]
    failed = routes.tried(shop.hub, "ops")
    assert (failed.delivered, "redirects are not followed" in failed.text) == (False, True)
    assert outbox(shop) == []
    with pytest.raises(EntityNotFoundError, match="no channel 'none'"):
        routes.tried(shop.hub, "none")


def test_channels_that_lead_nowhere_are_refused(shop: Any) -> None:
    hook(shop, "https://hooks.example/")
    with pytest.raises(ConflictError, match="already"):
        hook(shop, "https://hooks.example/")
    for target in (
        api.Webhook("http://0x7f.1/"),
        api.Webhook("https://hooks.example", "short"),
        api.Alertmanager("http://alerts.example/?a=b"),
        api.Alertmanager("http://alerts.example", user="ada"),
    ):
        with pytest.raises(InvalidInputError):
            hook(shop, "", name="other", target=target)
    with pytest.raises(InvalidInputError, match="state"):
        shop.call(routes.list_deliveries, query={"state": "x"})


def test_an_alertmanager_gets_the_alert_and_its_end(shop: Any, receiver: Any) -> None:
    hook(shop, "", target=api.Alertmanager(receiver.url + "/am/", user="ada", password="right"))
    incident = goes_silent(shop)
    shop.round.run()
    with shop.hub.database.writing() as connection:
        causes.act(connection, incident.id, Deed("resolved", ns(9)))
    shop.round.run()
    assert [one.path for one in receiver.received] == ["/am/api/v2/alerts"] * 2
    assert receiver.received[0].headers["authorization"] == "Basic YWRhOnJpZ2h0"
    first, last = (msgspec.json.decode(one.body)[0] for one in receiver.received)
    assert first["labels"] == last["labels"]
    assert last["endsAt"] == "2026-01-01T09:09:00+00:00"


def test_a_service_of_apprise_is_told_and_one_with_a_host_needs_leave(shop: Any, receiver: Any) -> None:
    pytest.importorskip("apprise")
    url = receiver.url.replace("http://", "json://") + "/t0ken"
    made = hook(shop, "", target=api.Apprise(url))
    assert made.target == "json://…"
    goes_silent(shop)
    shop.round.run()
    (got,) = receiver.received
    assert msgspec.json.decode(got.body)["message"].startswith("till-1 is silent")
    shop.hub.private_targets = False
    with pytest.raises(NotAllowedError, match=r"json://… may be on any machine"):
        hook(shop, "", name="closed", target=api.Apprise(url))
    hook(shop, "", name="one provider", target=api.Apprise("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"))
    with pytest.raises(InvalidInputError, match="does not know nonsense"):
        hook(shop, "", name="none", target=api.Apprise("nonsense://x"))
