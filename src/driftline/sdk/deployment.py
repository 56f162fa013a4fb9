"""What a deployment may use: the builder of the reference platform, with its dictionary."""

import re
from typing import Any, Self

from driftline.errors import InvalidInputError, NotYetError
from driftline.sdk.model import Model

_MEMORY = re.compile(r"^\d+(\.\d+)?([kKMGT]i?)?B?$")


class DeploymentConfigBuilder:
    """Collects CPU and memory limits; `build()` returns the dictionary that `Pipeline.deploy` takes.

    `engine` limits the worker that runs the pipeline, `engineAux.images.<model id>` the process of one custom model.

    >>> DeploymentConfigBuilder().replica_count(1).cpus(1).memory("2Gi").build()["engine"]["resources"]["limits"]
    {'cpu': 1, 'memory': '2Gi'}
    """

    def __init__(self, workspace_id: object = None) -> None:
        # The reference platform takes a workspace here; a limit needs none.
        self.workspace_id = workspace_id
        self._engine: dict[str, Any] = {"replicas": 1}
        self._balancer: dict[str, Any] = {}
        self._sidekicks: dict[str, dict[str, Any]] = {}
        self._selector: dict[str, str] = {}

    def replica_count(self, count: int) -> Self:
        """Say how many workers; a device runs one."""
        if count < 1:
            raise InvalidInputError(f"replica_count({count}): a deployment has at least one replica; undeploy() stops")
        if count > 1:
            raise NotYetError(f"replica_count({count}): a device runs one replica so far; use replica_count(1)")
        self._engine["replicas"] = count
        return self

    def cpus(self, core_count: float) -> Self:
        """Limit the worker to so many cores."""
        self._engine["cpu"] = _cores(core_count)
        _limit(self._engine, "cpu", _cores(core_count))
        return self

    def memory(self, memory_spec: str) -> Self:
        """Limit the worker's memory, such as '2Gi' or '512Mi'."""
        _limit(self._engine, "memory", _memory(memory_spec))
        return self

    def sidekick_cpus(self, model: Model, core_count: float) -> Self:
        """Limit a custom model's process to so many cores."""
        _limit(self._sidekick(model), "cpu", _cores(core_count))
        return self

    def sidekick_memory(self, model: Model, memory_spec: str) -> Self:
        """Limit the memory of a custom model's process."""
        _limit(self._sidekick(model), "memory", _memory(memory_spec))
        return self

    def lb_cpus(self, core_count: float) -> Self:
        """Accepted for compatibility; there is no separate load balancer to limit."""
        _limit(self._balancer, "cpu", _cores(core_count))
        return self

    def lb_memory(self, memory_spec: str) -> Self:
        """Accepted for compatibility; there is no separate load balancer to limit."""
        _limit(self._balancer, "memory", _memory(memory_spec))
        return self

    def gpus(self, gpu_count: int) -> Self:
        """Ask for GPUs; zero is all there is so far."""
        if gpu_count:
            raise NotYetError("gpus(): devices run models on the CPU so far; leave gpus() out")
        return self

    def build(self) -> dict[str, Any]:
        """Return {engine, enginelb, engineAux, node_selector}."""
        images = {uid: {"resources": image["resources"]} for uid, image in self._sidekicks.items()}
        return {
            "engine": dict(self._engine),
            "enginelb": dict(self._balancer),
            "engineAux": {"images": images},
            "node_selector": dict(self._selector),
        }

    def _sidekick(self, model: Model) -> dict[str, Any]:
        if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
            raise InvalidInputError(f"a sidekick is a model as upload_model() returned it, not {model!r:.80}")
        return self._sidekicks.setdefault(str(model.id), {})


def _limit(part: dict[str, Any], name: str, value: object) -> None:
    resources = part.setdefault("resources", {"limits": {}, "requests": {}})
    resources["limits"][name] = value
    resources["requests"][name] = value


def _cores(count: float) -> float:
    if isinstance(count, bool) or not isinstance(count, int | float) or not 0 < count < float("inf"):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
        raise InvalidInputError(f"{count!r} cores: give a number above 0, such as 1 or 0.5")
    return count


def _memory(text: str) -> str:
    if not isinstance(text, str) or not _MEMORY.match(text):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
        raise InvalidInputError(f"{text!r} is not an amount of memory; write for example '512Mi' or '2Gi'")
    return text
