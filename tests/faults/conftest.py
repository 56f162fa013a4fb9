"""Hubs, devices and disks to break, and what a run of faults reports."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from tests.faults.rig import Hub, Image, lacking, tmpfs


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked as long, but for a run at full size."""
    if os.environ.get("DRIFTLINE_FAULTS") != "full":
        left_out = [one for one in items if one.get_closest_marker("long") is not None]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [one for one in items if one not in left_out]


@pytest.fixture(scope="session")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A hub that stays whole, for tests that break devices."""
    folder = tmp_path_factory.mktemp("hub")
    hub = Hub(folder / "home", folder / "hub.log")
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture
def own_hub(tmp_path: Path) -> Iterator[Any]:
    """A hub to break, not yet started."""
    hub = Hub(tmp_path / "hub", tmp_path / "hub.log")
    yield hub
    hub.kill()


@pytest.fixture
def started() -> Iterator[Callable[[Any], Any]]:
    """Ends the processes given to it when the test ends, however it ends."""
    processes: list[Any] = []

    def keep(process: Any) -> Any:
        processes.append(process)
        return process

    yield keep
    for process in processes:
        process.kill()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Any]:
    """A disk whose power can be cut."""
    if reason := lacking("mkfs.ext4", "mount", "losetup", root=True):
        pytest.skip(reason)
    try:
        made = Image(tmp_path, megabytes=48)
    except CalledProcessError as error:
        pytest.skip(f"no loop device: {error.stderr.decode().strip()}")
    yield made
    with suppress(CalledProcessError):
        made.unmount()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of six megabytes."""
    if reason := lacking("mount", root=True):
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tmpfs(tmp_path / "disk", "6m"))
        except CalledProcessError as error:
            pytest.skip(f"nothing may be mounted here: {error.stderr.decode().strip()}")
        yield folder


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Adds a verdict to what `make faults` prints; then it must be clean."""

    def say(what: str, cases: int, verdict: Any, **facts: Any) -> None:
        record_property("faults", {"what": what, "cases": cases} | asdict(verdict) | facts)
        assert verdict.clean, f"{what}: {verdict}"

    return say
