"""A thread that looks again and again goes on whatever comes of one look, and says each trouble once."""

import threading
import time

import pytest

from driftline.errors import TemporaryError
from driftline.hub import looker
from driftline.hub.looker import Looker


class Looks:
    """Looks that end one after the other as they are told; the last one goes on for ever."""

    def __init__(self, *ends: bool | Exception) -> None:
        self.ends, self.done, self.all = list(ends), 0, threading.Event()

    def __call__(self, stopping: threading.Event) -> bool:
        end = self.ends[min(self.done, len(self.ends) - 1)]
        self.done += 1
        if self.done >= len(self.ends):
            self.all.set()
        if isinstance(end, Exception):
            raise end
        return end


def run(looks: Looks, wake: threading.Event | None = None) -> Looker:
    one = Looker("painter", looks, wake or threading.Event())
    one.start()
    assert looks.all.wait(20)
    return one


def test_it_looks_at_once_while_there_is_more_and_then_when_it_is_woken(monkeypatch: pytest.MonkeyPatch):
    # Longer than the test may take: time alone wakes nobody here.
    monkeypatch.setattr(looker, "PAUSE_S", 1000.0)
    wake = threading.Event()
    looks = Looks(True, True, True, False)
    one = run(looks, wake)
    seen, deadline_s = looks.done, time.monotonic() + 20
    while looks.done == seen and time.monotonic() < deadline_s:
        wake.set()
        time.sleep(0.001)
    assert looks.done > seen
    one.stop()
    assert not one.running


def test_a_trouble_is_said_when_it_begins_and_not_with_every_look(capsys: pytest.CaptureFixture[str]):
    full = TemporaryError("the disk is full")
    looks = Looks(full, full, False, full, ValueError("a bug"), ValueError("a bug"), False)
    wake = threading.Event()
    one = Looker("painter", looks, wake)
    one.start()
    while not looks.all.is_set():
        wake.set()
    one.stop()
    said = capsys.readouterr().err
    assert said.count("the painter waits: the disk is full") == 2
    assert said.count("ValueError: a bug") == 1
    assert looks.done >= 7
