"""What the demo says to input it cannot use, before any process is started."""

from pathlib import Path

import pytest

from driftline.cli import main


@pytest.fixture
def junk(tmp_path: Path) -> Path:
    file = tmp_path / "junk"
    file.write_text("neither a clip nor a model")
    return file


def refusal(capsys: pytest.CaptureFixture[str], report: Path, *arguments: object) -> str:
    """Run the demo, which must refuse, and leave no report folder behind; return what it says."""
    assert main(["demo", "--exit", "--report", str(report), *map(str, arguments)]) == 1
    assert not report.exists()
    return capsys.readouterr().err


def test_a_clip_that_cannot_be_decoded(junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refusal(capsys, tmp_path / "report", "--camera", junk, "--model", junk)
    assert "cannot be decoded as a video" in said


def test_a_clip_needs_a_detector_that_knows_what_is_in_it(
    junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert "--model FILE" in refusal(capsys, tmp_path / "report", "--camera", junk)


def test_a_model_that_is_none(junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refusal(capsys, tmp_path / "report", "--model", junk)
    assert "model 'junk' cannot be loaded as an ONNX graph" in said


def test_a_detector_config_with_an_unknown_key(junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "config.json"
    config.write_text('{"color": "RGB"}')
    said = refusal(capsys, tmp_path / "report", "--model", junk, "--detector-config", config)
    assert "there is no 'color'; it knows" in said
    assert "colour" in said


@pytest.mark.parametrize("number", [0, 4])
def test_a_camera_that_is_not_there(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "1 to 3" in refusal(capsys, tmp_path / "report", "--fault-device", number)


def test_a_report_folder_that_cannot_be_written_is_refused_before_the_story_begins(
    junk: Path, capsys: pytest.CaptureFixture[str]
):
    assert "name another folder with --report" in refusal(capsys, junk / "report")


def test_a_home_with_a_hub_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "home" / "hub").mkdir(parents=True)
    assert "a folder of its own" in refusal(capsys, tmp_path / "report", "--home", tmp_path / "home")
