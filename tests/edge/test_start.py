"""An agent starts without what it hardly ever asks, and has it when it does ask."""

import subprocess
import sys


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


def test_the_agent_imports_no_mail_no_tokenizer_and_no_archives():
    code = (
        "import sys; from driftline.edge import start; [start.defer(one) for one in start.HARDLY_ASKED]\n"
        "import driftline.cli, driftline.edge.agent\n"
        "unwanted = {'email', 'http.client', 'zipfile', 'ast', 'tempfile', 'asyncio'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    assert python(code) == "[]"
