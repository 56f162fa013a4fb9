import os
import subprocess
import sys
from pathlib import Path

import pytest

from driftline.edge.limits import Groups, Held, Holder, Limits, MemoryDeaths, is_delegated

MIB = 1024 * 1024


class Tree:
    """Control groups as files: what the kernel would hold is what was written."""

    def __init__(self, path: Path, lines: str, **files: str) -> None:
        self.root, self.proc = path / "cgroup", path / "proc"
        self.proc.mkdir()
        self.root.mkdir()
        (self.proc / "cgroup").write_text(lines)
        for name, content in files.items():
            file = self.root / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    def groups(self, *, delegated: bool = True) -> Groups:
        return Groups(self.root, self.proc, lambda _: delegated)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()


def test_a_delegated_v2_group_holds_quota_and_memory_and_can_be_lifted(tmp_path: Path):
    controllers = {"device/cgroup.controllers": "cpu memory pids"}
    tree = Tree(tmp_path, "0::/device\n", **controllers)
    groups = tree.groups()
    worker, agent = f"device/driftline-worker-{os.getpid()}", f"device/driftline-agent-{os.getppid()}"
    assert groups.hold_cpus(1.5) == "cpus 1.5: cgroup v2 quota"
    assert groups.hold_memory(512 * MIB) == "memory 512 MiB: cgroup v2"
    assert tree.read(f"{worker}/cpu.max") == "150000 100000"
    assert tree.read(f"{worker}/memory.max") == str(512 * MIB)
    # A v2 group with processes of its own may not limit its children: both processes have moved out of it.
    assert tree.read(f"{worker}/cgroup.procs") == str(os.getpid())
    assert tree.read(f"{agent}/cgroup.procs") == str(os.getppid())
    assert groups.hold_cpus(None) == groups.hold_memory(None) == ""
    assert (tree.read(f"{worker}/cpu.max"), tree.read(f"{worker}/memory.max")) == ("max 100000", "max")


def test_a_worker_started_by_an_agent_that_moved_finds_the_group_above(tmp_path: Path):
    tree = Tree(tmp_path, "0::/device/driftline-agent-7\n", **{"device/cgroup.controllers": "cpu"})
    (tree.root / "device/driftline-agent-7").mkdir()
    (tree.root / "device/driftline-worker-6").mkdir()  # left by the worker before
    assert tree.groups().hold_cpus(1) == "cpus 1: cgroup v2 quota"
    assert (tree.root / f"device/driftline-worker-{os.getpid()}").is_dir()
    assert not (tree.root / "device/driftline-worker-6").exists()


def test_delegated_v1_groups_hold_too(tmp_path: Path):
    tree = Tree(tmp_path, "4:memory:/mine\n3:cpu,cpuacct:/mine\n")
    (tree.root / "memory/mine").mkdir(parents=True)
    (tree.root / "cpu,cpuacct/mine").mkdir(parents=True)
    groups = tree.groups()
    assert groups.hold_cpus(0.5) == "cpus 0.5: cgroup v1 quota"
    assert groups.hold_memory(MIB) == "memory 1 MiB: cgroup v1"
    group = f"cpu,cpuacct/mine/driftline-worker-{os.getpid()}"
    assert tree.read(f"{group}/cpu.cfs_quota_us") == "50000"


def test_a_group_that_was_not_handed_over_is_left_alone(tmp_path: Path):
    tree = Tree(tmp_path, "0::/device\n", **{"device/cgroup.controllers": "cpu memory"})
    groups = tree.groups(delegated=False)
    assert groups.hold_cpus(1) == groups.hold_memory(MIB) == ""
    assert [one.name for one in (tree.root / "device").iterdir()] == ["cgroup.controllers"]


def test_being_able_to_write_is_not_delegation_for_root(tmp_path: Path):
    assert is_delegated(tmp_path) == (os.getuid() != 0)


def run(code: str) -> str:
    """Run in a process of its own: limits would stay."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


NO_GROUPS = (
    "import os, threading\n"
    "from pathlib import Path\n"
    "from driftline.edge.limits import Groups, Holder, Limits\n"
    "holder = Holder(Groups(Path('/nowhere'), Path('/nowhere')))\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity and RLIMIT_DATA as described are Linux's")
def test_without_a_group_the_process_limits_itself_and_says_how():
    out = run(
        NO_GROUPS + "import numpy, onnxruntime, cv2\n"
        "every = os.sched_getaffinity(0)\n"
        "held = holder.hold(Limits(0.5, 384 * 2**20))\n"
        "print(held.cpus, '|', held.memory, '|', held.whole)\n"
        "print(all(len(os.sched_getaffinity(int(t))) == 1 for t in os.listdir('/proc/self/task')))\n"
        "started = [threading.Thread(target=threading.Event().wait, args=(0.2,)) for _ in range(16)]\n"
        "[one.start() for one in started]; [one.join() for one in started]\n"
        "kept = numpy.ones(50 * 2**20, numpy.uint8)\n"
        "try:\n    numpy.empty(600 * 2**20, numpy.uint8); print('too much')\n"
        "except MemoryError:\n    print('refused')\n"
        "holder.hold(Limits())\n"
        "print(numpy.empty(600 * 2**20, numpy.uint8).nbytes // 2**20, os.sched_getaffinity(0) == every)\n"
    )
    words, pinned, refused, lifted = out.splitlines()
    cores = len(os.sched_getaffinity(0))
    assert words == (
        f"cpus 0.5: affinity to 1 of {cores} cores; a fraction needs a delegated cgroup"
        " | memory 384 MiB: limit on data (RLIMIT_DATA) | False"
    )
    assert (pinned, refused, lifted) == ("True", "refused", "600 True")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA as described is Linux's")
def test_a_limit_below_what_the_worker_uses_is_raised_to_it_and_says_so():
    out = run(NO_GROUPS + "print(holder.hold(Limits(None, 2**20)).memory)\nprint(len(bytearray(40 * 2**20)))\n")
    assert "memory 1 MiB: limit on data (RLIMIT_DATA), raised to the " in out
    assert str(40 * MIB) in out


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA as described is Linux's")
def test_onnxruntime_starts_and_answers_under_a_limit_that_address_space_would_break(tmp_path: Path):
    code = NO_GROUPS + (
        "import onnx, onnxruntime, numpy, resource\n"
        "from onnx import helper, TensorProto\n"
        "x = helper.make_tensor_value_info('x', TensorProto.FLOAT, [2])\n"
        "y = helper.make_tensor_value_info('y', TensorProto.FLOAT, [2])\n"
        "graph = helper.make_graph([helper.make_node('Neg', ['x'], ['y'])], 'g', [x], [y])\n"
        "model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)\n"
        "holder.hold(Limits(2, 128 * 2**20))\n"
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 4\n"
        "session = onnxruntime.InferenceSession(model.SerializeToString(), options)\n"
        "print(session.run(None, {'x': numpy.ones(2, numpy.float32)})[0].tolist())\n"
    )
    assert run(code).strip() == "[-1.0, -1.0]"


def test_limits_of_one_worker_add_up_and_a_pipeline_without_one_lifts_them():
    assert Limits.of([{"cpus": 1, "memory_bytes": 100}, {"cpus": 2, "memory_bytes": 50}]) == Limits(3, 150)
    assert Limits.of([{"cpus": 1}, {}]) == Limits.of([]) == Limits()
    assert [Limits(cpus).threads for cpus in (None, 0.5, 1, 2.5)] == [1, 1, 1, 2]
    assert Held().words({}) == ""
    assert "not held" in Held().words({"memory_bytes": MIB})


def test_nothing_wanted_is_held_by_nothing():
    assert Holder(Groups(Path("/nowhere"), Path("/nowhere"))).hold(Limits()) == Held()


def test_an_end_for_lack_of_memory_is_known_by_the_count_of_the_process_own_groups(tmp_path: Path):
    root, proc, now = tmp_path / "cgroup", tmp_path / "proc", [0.0]
    group = root / "memory" / "unit" / "driftline-worker-7"
    group.mkdir(parents=True)
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text("4:memory:/unit/driftline-worker-7\n3:cpu,cpuacct:/unit\n0::/\n")
    (proc / "vmstat").write_text("nr_free_pages 1\noom_kill 5\n")
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (group / "memory.limit_in_bytes").write_text(str(96 * 1024 * 1024))
    deaths = MemoryDeaths(root, proc, lambda: now[0])
    deaths.watch(7)
    assert deaths.why() is None
    # Another process of this machine was ended: that says nothing of this one.
    (proc / "vmstat").write_text("oom_kill 6\n")
    assert deaths.why() is None
    (group / "memory.oom_control").write_text("oom_kill 3\n")
    assert "it may use 96 MiB" in str(deaths.why())
    now[0] += 5
    deaths.watch(7)
    assert deaths.why() is None


def test_in_a_group_without_a_count_the_machine_counts_and_v2_says_max_for_no_limit(tmp_path: Path):
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text("0::/\n")
    (proc / "vmstat").write_text("oom_kill 5\n")
    deaths = MemoryDeaths(root, proc, lambda: 0.0)
    deaths.watch(7)
    (proc / "vmstat").write_text("oom_kill 6\n")
    assert "the machine has no more" in str(deaths.why())
    group = root / "unit"
    group.mkdir(parents=True)
    (proc / "7" / "cgroup").write_text("0::/unit\n")
    (group / "memory.events").write_text("low 0\nmax 9\noom 1\noom_kill 0\noom_group_kill 0\n")
    (group / "memory.max").write_text("max\n")
    deaths.watch(7)
    (group / "memory.events").write_text("oom_kill 1\n")
    assert "the machine has no more" in str(deaths.why())
