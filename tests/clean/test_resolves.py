"""What installs on boards that we do not have: resolved against the package index, not run.

aarch64 with glibc 2.28 gets everything a device with a model needs, as wheels; armv7 gets the base, which needs no
other package.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
UNREACHABLE = ("connection refused", "dns error", "failed to lookup", "timed out", "network", "connect", "offline")


@pytest.fixture(scope="module")
def index() -> None:
    """A package index that answers."""
    done = resolved("x86_64-manylinux_2_28", "--python-version", "3.11")
    if done.returncode and any(word in done.stderr.lower() for word in UNREACHABLE):
        pytest.skip(f"no package index is reachable: {done.stderr.strip().splitlines()[-1].strip()}")


def resolved(platform: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """Ask uv what [edge] installs on a platform, wheels only."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    what = ["--python-platform", platform, "--extra", "edge", str(PROJECT / "pyproject.toml")]
    patience = {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "20"}
    try:
        return subprocess.run(
            [*command, *what, *more], env=os.environ | patience, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("uv is not installed; pip cannot resolve for another platform's markers")


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("python", PYTHONS)
def test_on_aarch64_with_glibc_2_28_a_device_with_a_model_installs_from_wheels(python: str):
    done = resolved("aarch64-manylinux_2_28", "--python-version", python)
    assert done.returncode == 0, done.stderr
    names = {line.split("==")[0] for line in done.stdout.splitlines()}
    assert {"numpy", "onnxruntime", "opencv-python-headless", "starlette", "uvicorn", "cryptography"} <= names


@pytest.mark.usefixtures("index")
def test_the_very_versions_of_the_lock_install_there_too():
    done = resolved(
        "aarch64-manylinux_2_28", "--python-version", "3.11", "--constraint", str(PROJECT / "requirements.lock")
    )
    assert done.returncode == 0, done.stderr
    locked = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    for line in done.stdout.splitlines():
        assert not line or f"\n{line} " in locked or line.startswith(" "), line


@pytest.mark.usefixtures("index")
def test_a_platform_that_has_no_wheels_is_told_apart():
    done = resolved("aarch64-unknown-linux-musl", "--python-version", "3.11")
    assert done.returncode != 0
    assert "onnxruntime" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    command = [*build, "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = folder.glob("driftline-*.whl")
    return made


def installed(wheel: Path, requirement: str, target: Path) -> "subprocess.CompletedProcess[str]":
    """Ask pip what it would install on armv7, with this wheel and no index."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "--ignore-installed"]
    platform = ["--platform", "linux_armv7l", "--implementation", "cp", "--python-version", "311"]
    place = ["--only-binary=:all:", "--no-index", "--find-links", str(wheel.parent), "--target", str(target)]
    return subprocess.run([*pip, *platform, *place, requirement], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sysconfig.get_platform().endswith("armv7l"), reason="this machine is such a board")
def test_on_armv7_the_base_installs_and_needs_nothing_else(wheel: Path, tmp_path: Path):
    assert wheel.name.endswith("-py3-none-any.whl")
    done = installed(wheel, "driftline", tmp_path)
    assert done.returncode == 0, done.stderr
    (would,) = (line for line in done.stdout.splitlines() if line.startswith("Would install"))
    assert would.split()[2].startswith("driftline-")
    assert len(would.split()) == 3
    # The same question refuses what is not there.
    assert installed(wheel, "driftline[edge]", tmp_path).returncode != 0
