"""`driftline.observe`: counts inferences that your own program makes, on a device that an agent runs on.

    import driftline

    driftline.observe("doors", {"temperature": 21.5}, {"open": 1, "score": 0.93})

The device is the one whose folder `DRIFTLINE_EDGE_HOME` names (default ~/.driftline/edge). A call counts and returns;
a thread of its own hands closed windows to the agent, keeps them while no agent runs, and delivers the rest when the
program ends, to the agent or in a file for the next one; of a program that is killed the agent takes what it had
counted some seconds before. The standard library alone, but for `image`, as the image
observer needs OpenCV, and for vectors that an assay watches as a whole: they need numpy.
"""

import atexit
import logging
import os
import threading
import time as real_time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from driftline.clock import Clock, from_environment, to_ns
from driftline.edge.home import Home
from driftline.edge.link import Courier, stamp_told
from driftline.edge.open_window import place
from driftline.edge.recorder import Recorder
from driftline.edge.timekeeping import stamp_now
from driftline.errors import EntityNotFoundError, InvalidInputError, MissingExtraError, UnreachableError
from driftline.pipeline.definition import recorded_fields
from driftline.pipeline.iopath import ResolvedField
from driftline.pipeline.observers.detections import detection_fields
from driftline.wire.device import Desired, DesiredPipeline, desired_from

if TYPE_CHECKING:
    from driftline.pipeline.projection import Projection

log = logging.getLogger("driftline.edge")
BEAT_S = 0.5
# A pipeline deployed a moment ago is on its way to this device.
PIPELINE_WAIT_S = 5.0


def observe(
    pipeline: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    image: Any = None,
    time: datetime | int | None = None,
) -> None:
    """Count one inference of a pipeline whose model runs in this program.

    `inputs` and `outputs` are named values: numbers, text, or lists and arrays of them. `image` is a frame, uint8
    [height, width, 3] in BGR, for the image observer. `time` is a datetime (UTC where naive) or nanoseconds since
    1970 UTC, by default now.

    Raises:
        EntityNotFoundError: the hub wants no pipeline of this name on this device.
        MissingExtraError: `image` without OpenCV.
    """
    _observer().observe(pipeline, inputs, outputs, image, time)


class _Known(NamedTuple):
    """A pipeline that the hub wants here, its declared fields, and how its vectors become numbers."""

    wanted: DesiredPipeline
    fields: tuple[ResolvedField, ...]
    projections: Mapping[str, "Projection"]


class Observer:
    """Counts and delivers for one device; threads may share it."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._courier = Courier(lambda: home.socket, "observe", clock.now_ns)
        self._recorder = Recorder(self._courier.put, clock)
        self._courier.keep(place(home.path).folder, self._recorder.snapshot)
        self._guard = threading.Lock()
        self._pipelines: dict[str, _Known] = {}
        self._seen: set[str] = set()
        self._revision = ""
        self._process = os.getpid()
        self._greeting: Mapping[str, Any] | None = None
        self._stopping = threading.Event()
        saved = home.desired()
        if saved is not None:
            self._configure(saved, {})
        self._thread = threading.Thread(target=self._work, name="driftline-observe", daemon=True)
        self._thread.start()

    def observe(
        self, name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], image: Any, time: datetime | int | None
    ) -> None:
        """Count one inference; see the module's `observe`."""
        pipeline, fields, projections = self._find(name)
        values = _plain({f"in.{key}": value for key, value in inputs.items()})
        made = _plain({f"out.{key}": value for key, value in outputs.items()})
        definition = pipeline.definition
        made = _detections(definition, made) | _image(image) | made
        values |= made
        if definition["steps"]:
            values = {field.key: _value(values, field) for field in fields if not field.part}
        values |= _projected(projections, {"in": inputs, "out": outputs})
        time_ns = self._clock.now_ns() if time is None else to_ns(time) if isinstance(time, datetime) else int(time)
        with self._guard:
            self._recorder.begin(pipeline.id, time_ns)
            self._recorder.record(pipeline.id, time_ns, values)
            self._seen.add(pipeline.id)

    def close(self) -> None:
        """Hand over what was counted, as far as an agent is there to take it."""
        # A process that was forked from the one that counted has a copy of all this, which is not its own to deliver.
        if self._stopping.is_set() or self._process != os.getpid():
            return
        self._stopping.set()
        self._thread.join(2)
        with self._guard:
            self._recorder.close(self._clock.now_ns())
            self._recorder.hand_over()
        if not self._courier.flush() and self._courier.waiting:
            self._leave(self._courier.waiting)
        self._courier.close()

    def _leave(self, waiting: int) -> None:
        """Leave to the next agent what none takes now."""
        try:
            self._courier.leave(self._home.path)
        except OSError as error:
            log.warning("%d records of what was observed are lost: no agent takes them (%s)", waiting, error)

    def _find(self, name: str) -> "_Known":
        deadline_s = real_time.monotonic() + PIPELINE_WAIT_S
        while (found := self._pipelines.get(name)) is None:
            if real_time.monotonic() > deadline_s:
                there = ", ".join(sorted(self._pipelines)) or "none"
                raise EntityNotFoundError(
                    f"the hub wants no pipeline {name!r} on the device in {self._home.path} (there: {there}); publish "
                    "it to this device first, and have `driftline edge run` running"
                )
            real_time.sleep(0.05)
        return found

    def _work(self) -> None:
        while not self._stopping.wait(BEAT_S):
            try:
                self._beat()
            except UnreachableError as error:
                log.debug("what was observed waits: %s", error)
            except Exception:  # nothing here may stop the delivery of what comes after
                log.exception("delivering what was observed failed")

    def _beat(self) -> None:
        with self._guard:
            self._recorder.close(self._clock.now_ns())
            self._recorder.flush_rows()
            complete_ns, stamp = self._recorder.complete_until_ns, stamp_now(self._clock)
            seen = set(self._seen)
        greeting = self._courier.connect()
        # Once a connection: what a beat was answered since is newer.
        if greeting is not self._greeting:
            self._greeting = greeting
            self._take(greeting)
        if not self._courier.flush():
            return
        reply = self._courier.beat(
            revision=self._revision,
            pipelines=dict.fromkeys(seen, "running"),
            complete_until_ns=complete_ns,
            stamp=stamp_told(stamp),
        )
        if reply is not None and reply.get("revision") != self._revision:
            self._take(reply)

    def _take(self, reply: Mapping[str, Any]) -> None:
        if "desired" in reply:
            self._configure(desired_from(reply["desired"]), reply.get("rows_sent") or {})
            self._revision = str(reply["revision"])

    def _configure(self, desired: Desired, rows_sent: Mapping[str, int]) -> None:
        with self._guard:
            self._recorder.configure(desired, rows_sent, self._clock.now_ns())
            self._pipelines = {
                one.name: _Known(one, recorded_fields(one.definition, one.extra_fields), _projections(one))
                for one in desired.pipelines
            }
            self._seen &= {one.id for one in desired.pipelines}


# By process and home: what a forked process counts is its own.
_observers: dict[tuple[int, str], Observer] = {}
_making = threading.Lock()


def _observer() -> Observer:
    """Return the observer of the device that the environment names."""
    home = Home.of_environment()
    key = (os.getpid(), str(home.path))
    with _making:
        observer = _observers.get(key)
        if observer is None:
            observer = _observers[key] = Observer(home, from_environment())
            atexit.register(observer.close)
        return observer


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays, and what else knows how to become a list, as lists and numbers."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in values.items()}


def _value(values: Mapping[str, Any], field: ResolvedField) -> Any:
    """Return one element of a value, None where there is no such element."""
    value = values.get(f"{field.side}.{field.name}")
    for at in field.index:
        if not isinstance(value, list | tuple):
            # A number in the place of a list of one: index 0 of a scalar is the scalar.
            return value if at == 0 else None
        elements = cast("Sequence[Any]", value)
        if at >= len(elements):
            return None
        value = elements[at]
    while not field.index and isinstance(value, list | tuple) and len(cast("Sequence[Any]", value)) == 1:
        value = cast("Sequence[Any]", value)[0]
    return value


def _projections(wanted: DesiredPipeline) -> dict[str, "Projection"]:
    """Return how whole vectors become numbers; without numpy they are missing, and the log says so."""
    if not wanted.projections:
        return {}
    try:
        from driftline.pipeline.projection import Projection
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("driftline"):
            raise
        log.warning(
            "pipeline %s: %s cannot be watched as a whole, because this program has no numpy; install it beside "
            "driftline",
            wanted.name,
            ", ".join(wanted.projections),
        )
        return {}
    return {key: Projection.of(told) for key, told in wanted.projections.items()}


def _projected(projections: Mapping[str, "Projection"], given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what whole vectors become."""
    made: dict[str, Any] = {}
    for key, projection in projections.items():
        side, _, name = key.partition(".")
        made |= {f"{key}.{part}": number for part, number in projection.numbers(given[side].get(name)).items()}
    return made


def _detections(definition: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the detections observer."""
    names: Mapping[str, Any] | None = definition.get("detections")
    if names is None:
        return {}
    confidences = outputs.get(f"out.{names['confidences']}")
    if not isinstance(confidences, list | tuple):
        return {}
    classes = outputs.get(f"out.{names['classes']}") if names.get("classes") else None
    fields = detection_fields(
        [float(one) for one in cast("Sequence[Any]", confidences)],
        cast("Sequence[Any]", classes) if isinstance(classes, list | tuple) else None,
        names.get("class_names"),
    )
    return {f"out.{name}": value for name, value in fields.items()}


def _image(image: Any) -> dict[str, Any]:
    """Return the fields of the image observer."""
    if image is None:
        return {}
    try:
        from driftline.pipeline.observers.image import image_fields
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("driftline"):
            raise
        raise MissingExtraError("observing an image", "edge") from error
    if not hasattr(image, "dtype"):
        raise InvalidInputError("an image is an array, uint8 [height, width, 3] in BGR, as OpenCV reads it")
    return {f"out.{name}": value for name, value in image_fields(image).items()}
