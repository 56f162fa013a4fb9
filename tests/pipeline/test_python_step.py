"""Somebody's own Python in its own process: it may raise, crash, hang or print, and the worker goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftline.errors import InvalidInputError, TemporaryError
from driftline.pipeline.limits import MIB, Limits
from driftline.pipeline.python_step import PythonStep
from driftline.pipeline.schema import Field
from driftline.pipeline.step import ModelFailedError

Custom = Callable[..., Path]

# One model that does what its input asks for: a process costs a third of a second.
VERSATILE = """
    import os, sys, time
    import numpy as np
    import helper

    class Model:
        def load(self, folder):
            self.factor = float((folder / "factor.txt").read_text())
            self.calls = 0

        def predict(self, inputs):
            self.calls += 1
            return getattr(self, str(inputs["do"]))(inputs["x"])

        def double(self, x):
            x *= self.factor  # in place: inputs are the model's own
            return {"y": x, "label": helper.WORD, "pid": os.getpid(), "more": object()}

        def fail(self, x):
            return {"y": x / "zero"}

        def leave(self, x):
            sys.exit("enough")

        def die(self, x):
            print("last words", flush=True)
            os._exit(7)

        def die_once(self, x):
            if not os.path.exists("died"):
                open("died", "w").close()
                os.kill(os.getpid(), 9)
            return self.double(x)

        def hang(self, x):
            while True:
                pass

        def forget(self, x):
            return {"y": x}

        def nothing(self, x):
            return None

        def ragged(self, x):
            return {"y": [[1, 2], [3]], "label": "", "pid": 0}

        def objects(self, x):
            return {"y": {"a": 1}, "label": "", "pid": 0}

        def longer(self, x):
            return {"y": np.zeros(5), "label": "", "pid": 0}

        def leak(self, x):
            return {"y": np.ones(200_000_000), "label": "", "pid": 0}
"""
INPUTS = [Field("x", "float32", (2,)), Field("do", "string")]
OUTPUTS = [Field("y", "float32", (2,)), Field("label", "string"), Field("pid", "int64")]


@pytest.fixture
def step(custom: Custom) -> Iterator[PythonStep]:
    folder = custom(VERSATILE, helper__py="WORD = 'cup'", factor__txt="2")
    made = PythonStep("mine", folder, INPUTS, OUTPUTS, limits=Limits(memory_bytes=700 * MIB))
    yield made
    made.close()


def asked(step: PythonStep, what: str) -> dict[str, Any]:
    return step.run({"x": np.array([1, 2], np.float32), "do": np.array(what)})


def test_it_predicts_with_its_files_and_modules_as_the_schema_says(step: PythonStep):
    outputs = asked(step, "double")
    assert outputs["y"].tolist() == [2, 4]
    assert outputs["y"].dtype == np.float32
    assert str(outputs["label"]) == "cup"
    assert int(outputs["pid"]) != os.getpid()
    assert set(outputs) == {"y", "label", "pid"}, "what the schema does not name stays behind"


def test_an_error_in_its_code_comes_back_with_the_line_and_it_goes_on(step: PythonStep):
    before = int(asked(step, "double")["pid"])
    with pytest.raises(ModelFailedError) as caught:
        asked(step, "fail")
    message = str(caught.value)
    assert message.startswith("model 'mine' failed in predict: ")
    assert 'File "model.py"' in message
    assert 'return {"y": x / "zero"}' in message
    assert "sidecar" not in message
    with pytest.raises(ModelFailedError, match="SystemExit: enough"):
        asked(step, "leave")
    assert int(asked(step, "double")["pid"]) == before


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("forget", ModelFailedError, "gave no label, pid; the output schema has y, label, pid, predict gave y"),
        ("nothing", ModelFailedError, "returned NoneType; it returns a dict"),
        ("ragged", ModelFailedError, "'y' is a list of lists of different lengths"),
        ("objects", ModelFailedError, "'y' is dict"),
        ("longer", InvalidInputError, r"does not match its schema: y float32\[2\] was given with shape \[5\]"),
        ("leak", ModelFailedError, r"MemoryError.*a limit of 700 MiB"),
    ],
)
def test_what_it_must_not_return_is_said_clearly(step: PythonStep, what: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        asked(step, what)


def test_a_process_that_dies_is_started_again_once(step: PythonStep):
    before = int(asked(step, "double")["pid"])
    after = asked(step, "die_once")
    assert after["y"].tolist() == [2, 4]
    assert int(after["pid"]) != before


def test_a_process_that_dies_every_time_says_how_and_the_next_inference_starts_it(
    step: PythonStep, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(TemporaryError, match=r"(?s)ended twice.*ended with code 7.*last words"):
        asked(step, "die")
    assert "[mine] last words" in capfd.readouterr().err
    assert asked(step, "double")["y"].tolist() == [2, 4]


def test_a_process_killed_between_two_inferences_is_not_noticed(step: PythonStep):
    os.kill(int(asked(step, "double")["pid"]), signal.SIGKILL)
    assert asked(step, "double")["y"].tolist() == [2, 4]


def test_a_process_that_stands_still_is_ended_in_time_and_the_next_inference_starts_it(step: PythonStep):
    pid = int(asked(step, "double")["pid"])
    os.kill(pid, signal.SIGSTOP)
    step._predict_timeout_s = 1.0
    with pytest.raises(TemporaryError, match="did not answer within 1 s and was stopped"):
        asked(step, "double")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert asked(step, "double")["y"].tolist() == [2, 4]


def test_a_prediction_that_never_ends_is_stopped(step: PythonStep):
    pid = int(asked(step, "double")["pid"])
    step._predict_timeout_s = 1.0
    with pytest.raises(TemporaryError, match="did not answer within 1 s"):
        asked(step, "hang")
    step._predict_timeout_s = 60.0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert asked(step, "double")["y"].tolist() == [2, 4]


def test_closing_ends_the_process(step: PythonStep):
    pid = int(asked(step, "double")["pid"])
    step.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "needs a class Model with load.*there is no such class"),
        ("class Model:\n    def load(self, folder): ...", "it has no predict"),
        ("class Model:\n  def predict(self, inputs): ...", "it has no load"),
        ("import not_installed_anywhere", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("class Model(:", "SyntaxError"),
        ("import os\nos._exit(3)", "ended while loading: its process ended with code 3"),
        ("import os\nos.abort()", "ended while loading: it crashed .SIGABRT"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(custom: Custom, source: str, message: str):
    with pytest.raises(InvalidInputError, match=message):
        PythonStep("mine", custom(source), INPUTS, OUTPUTS)


def test_prints_and_a_closed_standard_output_do_not_disturb_the_protocol(custom: Custom):
    folder = custom("""
        import os, sys
        class Model:
            def load(self, folder):
                print("x" * 100_000)
            def predict(self, inputs):
                sys.stdout.write("no newline")
                os.close(1)
                return {"y": 1.5}
    """)
    step = PythonStep("loud", folder, [Field("x", "float64")], [Field("y", "float64")])
    assert step.run({"x": np.array(0.0)})["y"] == 1.5
    step.close()


def test_modules_in_the_folder_do_not_stand_before_the_standard_library(custom: Custom):
    folder = custom(
        "class Model:\n  def load(self, folder): ...\n  def predict(self, inputs): return {'y': 1}",
        socket__py="raise SystemExit('shadowed')",
        numpy__py="raise SystemExit('shadowed')",
    )
    step = PythonStep("m", folder, [Field("x", "float64")], [Field("y", "float64")])
    assert step.run({"x": np.array(0.0)})["y"] == 1
    step.close()


WORKER = """
import sys
from pathlib import Path
import numpy as np
from driftline.pipeline.python_step import PythonStep
from driftline.pipeline.schema import Field
step = PythonStep("m", Path(sys.argv[1]), [Field("x", "float64")], [Field("y", "float64")])
step.run({"x": np.array(0.0)})
"""


def test_a_model_ends_soon_after_its_worker_was_killed(custom: Custom):
    folder = custom("""
        import os
        class Model:
            def load(self, folder):
                open(folder / "pid", "w").write(str(os.getpid()))
            def predict(self, inputs):
                while True: pass
    """)
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder)])
    until = time.monotonic() + 20
    while not ((folder / "pid").exists() and (folder / "pid").read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    pid = int((folder / "pid").read_text())
    try:
        worker.kill()
        worker.wait()
        while is_running(pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert not is_running(pid)
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_processes_that_a_model_started_end_with_it(custom: Custom):
    folder = custom("""
        import subprocess
        class Model:
            def load(self, folder):
                self.child = subprocess.Popen(["sleep", "300"])
            def predict(self, inputs):
                return {"y": self.child.pid}
    """)
    step = PythonStep("m", folder, [Field("x", "float64")], [Field("y", "int64")])
    child = int(step.run({"x": np.array(0.0)})["y"])
    assert is_running(child)
    step.close()
    until = time.monotonic() + 10
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(child)
