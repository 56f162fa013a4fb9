import subprocess
import sys

import pytest

from driftline.cli import main, parser


def test_help_says_what_each_command_is_for():
    text = parser().format_help()
    for command in ("demo", "up", "edge", "login"):
        assert command in text


@pytest.mark.parametrize("arguments", [[], ["fly"], ["edge"], ["demo", "--no-fault", "--fault-device", "2"]])
def test_wrong_usage_is_exit_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_error_is_one_sentence_and_exit_code_one(capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--fault-device", "9"]) == 1
    assert capsys.readouterr().err == "driftline: --fault-device is 1 to 3, not 9\n"


def test_a_clip_that_is_not_there_is_said_before_anything_starts(capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--camera", "nowhere.mp4", "--model", __file__]) == 1
    assert "the clip nowhere.mp4 is not there" in capsys.readouterr().err


def test_the_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "driftline.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("driftline ")
