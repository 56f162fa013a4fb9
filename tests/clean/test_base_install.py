"""`pip install .` alone, without any extra: the agent and observe-only run on the standard library."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds driftline and nothing else; returns its bin folder."""
    folder = tmp_path_factory.mktemp("bare")
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(PROJECT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = wheels.glob("driftline-*.whl")
    install = [*pip, "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return python.parent


def ask(bare: Path, code: str) -> str:
    done = subprocess.run([bare / "python", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_agent_needs_the_standard_library_alone(bare: Path):
    foreign = ask(
        bare,
        "import driftline.edge.agent, driftline.edge.observe, sys\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(r for r in roots - set(sys.stdlib_module_names) - {'driftline', '__main__'}"
        " if not r.startswith('_')))",
    )
    assert foreign == "[]"


JOINED = """
import sys
from driftline.edge.home import Home, Identity
from driftline.pipeline.definition import make_definition
from driftline.wire.device import Desired, DesiredPipeline
home = Home(sys.argv[1])
home.make()
home.save_identity(Identity("id", "till-1", "http://127.0.0.1:9", None, bytes(32)))
home.save_desired(Desired((DesiredPipeline("pv", "doors", make_definition("doors", [])),)))
"""
OBSERVING = """
import sys, driftline
driftline.observe("doors", {"temperature": 21.5}, {"confidences": [0.5, 0.75], "label": "open"})
assert not {"numpy", "cv2"} & set(sys.modules)
"""


def test_it_runs_observe_only_and_says_so(bare: Path, tmp_path: Path):
    home = str(tmp_path / "device")
    environment = os.environ | {"DRIFTLINE_EDGE_HOME": home}
    subprocess.run([bare / "python", "-I", "-c", JOINED, home], check=True)
    run = [bare / "driftline", "edge", "run", "--home", home]
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stderr is not None
        said = ""
        while "observes only" not in said:
            said = agent.stderr.readline()
            assert said, "the agent ended"
        subprocess.run([bare / "python", "-c", OBSERVING], env=environment, check=True)
        status = [bare / "driftline", "edge", "status", "--home", home]
        told = subprocess.run(status, capture_output=True, text=True, check=True).stdout
        doctor = [bare / "driftline", "doctor", "--home", home]
        found = subprocess.run(doctor, capture_output=True, text=True, check=False).stdout
        agent.terminate()
    assert agent.returncode == 0
    assert "pip install 'driftline[edge]'" in said
    assert "doors: waiting for driftline.observe" in told
    assert "waiting   1 record" in told
    assert "it observes (driftline.observe) and runs no models" in found
    assert [line.split()[1] for line in found.splitlines() if line.startswith("WRONG")] == ["hub"]


@pytest.mark.parametrize(("command", "extra"), [(["up"], "hub"), (["login", "http://127.0.0.1:1"], "sdk")])
def test_a_command_without_its_extra_says_what_installs_it(bare: Path, command: list[str], extra: str):
    done = subprocess.run([bare / "driftline", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'driftline[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_without_its_extra_says_what_installs_it(bare: Path):
    said = ask(
        bare,
        "import driftline\ntry:\n    driftline.Client\nexcept ImportError as error:\n    print(error)",
    )
    assert "pip install 'driftline[sdk]'" in said
