"""An agent starts without what it hardly ever asks, and has it when it does ask."""

import subprocess
import sys
from pathlib import Path


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_a_deferred_module_loads_when_it_is_asked_and_not_when_it_is_imported():
    code = (
        "import sys; from driftline.edge.start import Deferred, defer; defer('inspect'); import inspect, dataclasses\n"
        "print(type(inspect) is Deferred, 'ast' in sys.modules, end=' ')\n"
        "print(inspect.signature(lambda a, b: 0), type(inspect) is Deferred)"
    )
    assert python(code) == "True False (a, b) False"


def test_a_module_that_is_there_already_stays_as_it_is():
    code = (
        "import json; from driftline.edge.start import defer; defer('json'); import json as again; print(again is json)"
    )
    assert python(code) == "True"


def test_the_agent_imports_no_command_line_no_mail_no_tokenizer_and_no_archives():
    code = (
        "import sys; from driftline.edge import start; [start.defer(one) for one in start.HARDLY_ASKED]\n"
        "import driftline.edge.agent\n"
        "unwanted = {'argparse', 'email', 'http.client', 'zipfile', 'gzip', 'ast', 'tempfile', 'asyncio'}\n"
        "loaded = {one for one in start.HARDLY_ASKED if not isinstance(sys.modules[one], start.Deferred)}\n"
        "print(sorted(unwanted & set(sys.modules) | loaded))"
    )
    assert python(code) == "[]"


def test_the_command_becomes_the_agent_with_the_options_it_was_given(tmp_path: Path):
    command = [sys.executable, "-m", "driftline.cli", "edge", "run", "--home", str(tmp_path), "--serve", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"driftline: no device lives in {tmp_path}")


def test_what_the_c_library_keeps_of_freed_memory_goes_back_to_the_system():
    code = (
        "from driftline.edge import heap; from pathlib import Path\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "heap.share_one_heap(); heap.give_back()\n"
        # Every second block stays, so that nothing at the end of the heap is free as a whole.
        "blocks = [bytes([1]) * 8000 for _ in range(4000)]; full = resident(); kept = blocks[::2]; del blocks\n"
        "held = resident(); heap.give_back()\n"
        "print(full - held < 2_000_000, held - resident() > 2_000_000)"
    )
    assert python(code) == "True True"
