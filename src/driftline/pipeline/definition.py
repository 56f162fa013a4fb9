"""A pipeline as a document: its steps, what goes in and comes out, and which numbers of an inference are recorded.

The hub makes it when a pipeline is built, and it never changes after that; the device's worker runs it, the recorder
counts what it lists, and an assay finds its field in it. Layout, version 1:

    {"version": 1, "pipeline": name, "steps": [step…], "inputs": [field…], "outputs": [field…],
     "observers": ["image", "detections"], "image": the input they look at, or null,
     "detections": {"confidences", "classes", "class_names"}, or null,
     "fields": [{"key", "type", "kind"}…], "notes": [sentence…]}

A step is `{"model", "name", "framework", "digest", "input_schema", "output_schema", "detector"}`. Steps chain by name:
an input is taken from the outputs of an earlier step, else from the pipeline's own inputs. Outputs that an observer
makes carry `"observer"` beside name, type and shape. No steps is a pipeline whose model runs in its owner's program.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from driftline.errors import InvalidInputError
from driftline.framework import Framework
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.iopath import ResolvedField, resolved, resolver
from driftline.pipeline.observers import DETECTION_FIELDS, IMAGE_FIELDS, OBSERVER_FIELDS, class_fields
from driftline.pipeline.schema import Field, listed, parse_schema

VERSION = 1
# Longer lists are recorded element by element, from the moment an assay names one.
RECORDED_SIZE_MAX = 16
STEP_KEYS = ("model", "name", "framework", "digest", "input_schema", "output_schema", "detector")


def make_definition(name: str, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make the document of a pipeline from its steps; see the module's layout.

    Raises:
        InvalidInputError: a step that cannot be read, a detector without a picture, or steps that do not fit together.
    """
    read = [_read_step(step) for step in steps]
    inputs, outputs = _chain(read)
    image, detections, notes = _watched(read, inputs, outputs)
    made, taken = _observed(image, detections, {field.name for field in outputs})
    if taken:
        several = len(taken) > 1
        notes.append(
            f"the model's own {' and '.join(taken)} {'are' if several else 'is'} taken; "
            f"the observer's {'are' if several else 'is'} off"
        )
    return {
        "version": VERSION,
        "pipeline": name,
        "steps": [{key: step.get(key) for key in STEP_KEYS} for step in steps],
        "inputs": [field.document for field in inputs],
        "outputs": [
            *(field.document for field in outputs),
            *(field.document | {"observer": observer} for field, observer in made),
        ],
        "observers": list(dict.fromkeys(observer for _, observer in made)) if steps else ["image"],
        "image": image,
        "detections": detections,
        "fields": _fields_by_default([field for field, _ in made] + outputs, inputs),
        "notes": notes,
    }


def recorded_fields(definition: Mapping[str, Any], extra: Sequence[str] = ()) -> tuple[ResolvedField, ...]:
    """Return what is recorded of every inference: the definition's fields, and those that assays named besides.

    Raises:
        InvalidInputError: an extra field that the pipeline does not have.
    """
    find = resolver(definition)
    keys = [*(str(one["key"]) for one in definition["fields"]), *extra]
    return tuple({one.key: one for one in map(find, keys)}.values())


class _Step:
    """A step as read: its fields and its detector's configuration."""

    def __init__(
        self, name: str, inputs: tuple[Field, ...], outputs: tuple[Field, ...], detector: DetectorConfig | None
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.outputs = outputs
        self.detector = detector


def _read_step(step: Mapping[str, Any]) -> _Step:
    missing = [key for key in STEP_KEYS if key not in step and key != "detector"]
    if missing:
        raise InvalidInputError(f"a step of a pipeline needs {', '.join(missing)}")
    name = str(step["name"])
    inputs, outputs = parse_schema(step["input_schema"]), parse_schema(step["output_schema"])
    if not inputs or not outputs:
        raise InvalidInputError(
            f"model {name!r}: give at least one field in its input schema and one in its output schema"
        )
    framework = Framework.parse(step["framework"])
    if step.get("detector") is None:
        return _Step(name, inputs, outputs, None)
    detector = DetectorConfig.parse(step["detector"])
    check_detector(name, framework, inputs, outputs, detector)
    return _Step(name, inputs, outputs, detector)


def check_detector(
    name: str, framework: Framework, inputs: Sequence[Field], outputs: Sequence[Field], detector: DetectorConfig
) -> None:
    """Refuse a detector whose schemas have no frame to look at, or not what it finds.

    Raises:
        InvalidInputError: says what the schema has instead.
    """
    if framework is not Framework.ONNX:
        raise InvalidInputError(
            f"model {name!r}: a detector's configuration is for ONNX models; "
            "a model of your own prepares its picture itself"
        )
    if len(inputs) != 1 or not inputs[0].is_image:
        raise InvalidInputError(
            f"model {name!r}: a detector takes one frame, a field of uint8 with shape [height, width, 3] "
            f"(null where it varies); its input schema has: {listed(inputs)}"
        )
    there = {field.name for field in outputs}
    wanted = [detector.boxes, detector.classes, detector.confidences]
    if not there.issuperset(wanted):
        raise InvalidInputError(
            f"model {name!r}: the detector's outputs are {', '.join(wanted)}, but its output schema has: "
            f"{listed(outputs)}; name them in the detector's configuration (boxes, classes, confidences)"
        )


def _chain(steps: Sequence[_Step]) -> tuple[list[Field], list[Field]]:
    """Return the pipeline's inputs, and its outputs: the last step's and those nobody consumed."""
    inputs: dict[str, Field] = {}
    outputs: dict[str, Field] = {}
    consumed: set[str] = set()
    for step in steps:
        for field in step.inputs:
            source = outputs.get(field.name) or inputs.setdefault(field.name, field)
            if len(source.shape) != len(field.shape) or (source.type == "string") != (field.type == "string"):
                raise InvalidInputError(
                    f"model {step.name!r} takes {field.text}, but what comes under this name is {source.text}"
                )
            if field.name in outputs:
                consumed.add(field.name)
        for field in step.outputs:
            # In the order of the last step that makes it.
            outputs.pop(field.name, None)
            outputs[field.name] = field
            consumed.discard(field.name)
    return list(inputs.values()), [field for field in outputs.values() if field.name not in consumed]


def _watched(
    steps: Sequence[_Step], inputs: Sequence[Field], outputs: Sequence[Field]
) -> tuple[str | None, dict[str, Any] | None, list[str]]:
    """Return what the observers look at: the image's name, the detections' names, and what should be said of it."""
    notes: list[str] = []
    images = [field.name for field in inputs if field.is_image]
    if len(images) > 1:
        notes.append(f"the pipeline takes several frames ({', '.join(images)}), so the image observer is off")
    detector = next((step.detector for step in reversed(steps) if step.detector is not None), DetectorConfig())
    by_name = {field.name: field for field in outputs}
    confidences = by_name.get(detector.confidences)
    detections: dict[str, Any] | None = None
    if confidences is not None and len(confidences.shape) == 1 and confidences.type != "string":
        classes = by_name.get(detector.classes)
        named = classes is not None and len(classes.shape) == 1 and detector.class_names is not None
        detections = {
            "confidences": confidences.name,
            "classes": classes.name if classes is not None and named else None,
            "class_names": list(detector.class_names) if named and detector.class_names is not None else None,
        }
    return (images[0] if len(images) == 1 else None), detections, notes


def _observed(
    image: str | None, detections: Mapping[str, Any] | None, own: set[str]
) -> tuple[list[tuple[Field, str]], list[str]]:
    """Return the fields observers make, each with its observer's name, and those the model makes itself."""
    names = [(name, "image") for name in IMAGE_FIELDS if image is not None]
    if detections is not None:
        counted = (*DETECTION_FIELDS, *class_fields(detections["class_names"]))
        names += [(name, "detections") for name in dict.fromkeys(counted)]
    made = [(Field(name, "float64"), observer) for name, observer in names if name not in own]
    return made, [name for name, _ in names if name in own]


def _fields_by_default(outputs: Sequence[Field], inputs: Sequence[Field]) -> list[dict[str, str]]:
    found = [resolved("out", field, index) for field in outputs for index in _recorded(field)]
    found += [resolved("in", field, index) for field in inputs for index in _recorded(field)]
    by_key = {one.key: {"key": one.key, "type": one.type, "kind": one.kind} for one in found}
    return list(by_key.values())


def _recorded(field: Field) -> Iterator[tuple[int, ...]]:
    """Say which elements of a field are recorded by default."""
    if field.shape == (None,) and field.name in OBSERVER_FIELDS:
        # The reference story's models give their own avg_confidence as a list of one.
        yield (0,)
    elif field.size is not None and field.size <= RECORDED_SIZE_MAX:
        yield from product(*(range(length) for length in field.shape if length is not None))
