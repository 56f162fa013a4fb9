"""Channels: what each kind needs, and how a notification goes through it."""

from dataclasses import dataclass

import msgspec

from driftline.clock import NS_PER_S
from driftline.errors import DriftlineError, InvalidInputError, NotAllowedError, PermanentError, TemporaryError
from driftline.hub.notify import mail, message, services
from driftline.hub.notify.address import parsed
from driftline.hub.notify.connection import Answer, Network, post
from driftline.hub.notify.schedule import Outcome
from driftline.wire import api

JSON = "application/json"
CLOUD_EVENT = "application/cloudevents+json; charset=utf-8"
ALERTS_PATH = "/api/v2/alerts"
KINDS = {api.Webhook: "webhook", api.Email: "email", api.Alertmanager: "alertmanager", api.Apprise: "apprise"}
# What a receiver says when the same may be taken later.
LATER = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class Result:
    """What came of one try, in words; `retry_after_s` is the receiver's own wish."""

    outcome: Outcome
    text: str
    retry_after_s: float | None = None


def ready(target: api.Target, *, private: bool) -> api.Target:
    """Return what a channel is given with what the hub adds to it: a secret to sign with.

    Raises:
        InvalidInputError, NotAllowedError, MissingExtraError: nothing can be sent that way; the message says why.
    """
    if isinstance(target, api.Webhook):
        parsed(target.url)
        secret = target.secret or message.new_secret()
        message.secret_bytes(secret)
        return msgspec.structs.replace(target, secret=secret)
    if isinstance(target, api.Email):
        mail.check(target)
    elif isinstance(target, api.Alertmanager):
        parts = parsed(target.url)
        if parts.query or parts.fragment:
            raise InvalidInputError("an Alertmanager's address is that of its first page, such as http://alerts:9093")
        if (target.user is None) != (target.password is None):
            raise InvalidInputError("give the Alertmanager's user and password together, or neither")
    else:
        services.check(target.url, private=private)
    return target


def shown(target: api.Target) -> str:
    """Say where a channel leads, without what was given in confidence: paths of webhooks often are keys.

    >>> shown(api.Webhook(url="https://hooks.example/T1/B2/x3"))
    'https://hooks.example/…'
    """
    if isinstance(target, api.Email):
        return f"{', '.join(target.to)} by {target.host}"
    if isinstance(target, api.Apprise):
        return services.shown(target.url)
    parts = parsed(target.url)
    return f"{parts.scheme}://{parts.netloc}" + ("/…" if parts.path not in {"", "/"} or parts.query else "")


def send(
    network: Network, target: api.Target, told: api.Notification, url: str, picture: bytes | None, now_ns: int
) -> Result:
    """Send a notification, once, and say what came of it; `url` is the dashboard, '' where nobody reaches it."""
    try:
        return _sent(network, target, told, url, picture, now_ns)
    except TemporaryError as error:
        return Result("failed", str(error))
    except (PermanentError, NotAllowedError) as error:
        return Result("refused", str(error))
    except DriftlineError as error:
        return Result("failed", str(error))


def _sent(
    network: Network, target: api.Target, told: api.Notification, url: str, picture: bytes | None, now_ns: int
) -> Result:
    if isinstance(target, api.Webhook):
        body = message.cloud_event(told)
        signature = message.signed(target.secret or "", told.event_id, now_ns // NS_PER_S, body)
        return _judged(
            post(network, target.url, body, {"Content-Type": CLOUD_EVENT, "User-Agent": "driftline"} | signature)
        )
    if isinstance(target, api.Alertmanager):
        headers = {"Content-Type": JSON, "User-Agent": "driftline"}
        if target.user is not None and target.password is not None:
            headers["Authorization"] = message.basic(target.user, target.password)
        return _judged(post(network, target.url.rstrip("/") + ALERTS_PATH, message.alerts(told, url), headers))
    if isinstance(target, api.Email):
        return Result("delivered", mail.send(network, target, mail.composed(target, told, url, picture, now_ns)))
    return Result("delivered", services.send(target.url, told, url, private=network.private))


def _judged(answer: Answer) -> Result:
    """Say what an answer means."""
    said = f"the receiver answered {answer.status}" + (f": {answer.text}" if answer.text else "")
    if 200 <= answer.status < 300:
        return Result("delivered", f"the receiver answered {answer.status}")
    if 300 <= answer.status < 400:
        return Result("refused", f"{said}; redirects are not followed, give the address that it leads to")
    is_later = answer.status >= 500 or answer.status in LATER
    return Result("failed" if is_later else "refused", said, answer.retry_after_s)
