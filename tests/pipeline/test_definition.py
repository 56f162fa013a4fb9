"""A pipeline as a document: how steps chain, what is observed, what is recorded."""

from typing import Any

import pytest

from driftline.errors import InvalidInputError, NotYetError
from driftline.pipeline.definition import make_definition, recorded_fields
from driftline.pipeline.iopath import canonical, resolve

FRAME = {"name": "image", "type": "uint8", "shape": [None, None, 3]}
FOUND = [
    {"name": "boxes", "type": "float32", "shape": [None, 4]},
    {"name": "classes", "type": "int64", "shape": [None]},
    {"name": "confidences", "type": "float32", "shape": [None]},
]
IMAGE = ["out.avg_px_intensity", "out.contrast", "out.sharpness", "out.clipped"]
DETECTIONS = ["out.detections", "out.avg_confidence", "out.empty"]


def field(name: str, kind: str = "float32", *shape: int | None) -> dict[str, Any]:
    return {"name": name, "type": kind, "shape": list(shape)}


def step(inputs: list[Any], outputs: list[Any], name: str = "m", detector: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "model": f"id-{name}",
        "name": name,
        "framework": "onnx" if detector is not None else "custom",
        "digest": "",
        "input_schema": inputs,
        "output_schema": outputs,
        "detector": detector,
    } | more


def keys(definition: dict[str, Any]) -> list[str]:
    return [one["key"] for one in definition["fields"]]


def test_a_detector_is_observed_and_its_boxes_are_not_recorded():
    definition = make_definition("p", [step([FRAME], FOUND, detector={"class_names": ["cup", "wine glass"]})])
    assert keys(definition) == [*IMAGE, *DETECTIONS, "out.count_cup", "out.count_wine_glass"]
    assert definition["observers"] == ["image", "detections"]
    assert definition["image"] == "image"
    assert definition["notes"] == []


def test_scalars_and_short_lists_are_recorded_and_long_or_varying_ones_are_not():
    inputs = [field("a"), field("b", "float32", 16), field("c", "float32", 17), field("d", "float32", None)]
    outputs = [field("y", "float32", 2, 2), field("word", "string")]
    definition = make_definition("p", [step(inputs, outputs)])
    matrix = ["out.y.0.0", "out.y.0.1", "out.y.1.0", "out.y.1.1"]
    assert keys(definition) == [*matrix, "out.word", "in.a", *(f"in.b.{n}" for n in range(16))]
    assert {one["key"]: one["kind"] for one in definition["fields"]}["out.word"] == "category"


def test_what_the_model_makes_itself_is_taken_and_said():
    own = [field("avg_confidence", "float32", None), field("avg_px_intensity", "float64", 1)]
    definition = make_definition("p", [step([FRAME], [*FOUND, *own])])
    assert "out.avg_confidence.0" in keys(definition)
    assert "out.avg_confidence" not in keys(definition)
    assert "out.avg_px_intensity.0" in keys(definition)
    assert definition["notes"] == [
        "the model's own avg_px_intensity and avg_confidence are taken; the observer's are off"
    ]
    assert resolve("output avg_confidence 0", definition).key == "out.avg_confidence.0"
    assert resolve("out.avg_confidence", definition).key == "out.avg_confidence.0"


def test_steps_chain_by_name_and_what_nobody_consumed_comes_out():
    first = step([field("x")], [field("y"), field("z")], "first")
    second = step([field("y"), field("w")], [field("score")], "second")
    definition = make_definition("p", [first, second])
    assert [one["name"] for one in definition["inputs"]] == ["x", "w"]
    assert [one["name"] for one in definition["outputs"]] == ["z", "score"]


def test_steps_that_do_not_fit_say_which():
    first = step([field("x")], [field("y", "float32", 3)], "first")
    second = step([field("y")], [field("z")], "second")
    with pytest.raises(InvalidInputError, match=r"model 'second' takes y float32, but .* is y float32\[3\]"):
        make_definition("p", [first, second])


def test_a_pipeline_without_steps_records_whatever_its_owner_observes():
    definition = make_definition("p", [])
    assert definition["fields"] == []
    assert resolve("output score 0", definition).key == "out.score"
    assert resolve("out.score.3", definition).key == "out.score.3"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (step([FRAME], []), "at least one field"),
        (step([], FOUND), "at least one field"),
        (step([FRAME], FOUND, framework="tensorflow"), "does not run on driftline devices"),
        (step([FRAME], FOUND, detector={}, framework="custom"), "is for ONNX models"),
        (step([field("x")], FOUND, detector={}), "a detector takes one frame"),
        (step([FRAME], FOUND[:2], detector={}), "its output schema has: boxes float32"),
        ({"name": "m"}, "a step of a pipeline needs model, framework"),
    ],
)
def test_a_step_that_cannot_be_is_refused(bad: dict[str, Any], message: str):
    with pytest.raises((InvalidInputError, NotYetError), match=message):
        make_definition("p", [bad])


def test_extra_fields_come_after_the_default_ones_and_once():
    definition = make_definition("p", [step([field("t", "float32", 100)], [field("y")])])
    found = recorded_fields(definition, ["input t 3", "in.t.3", "out.y"])
    assert [one.key for one in found] == ["out.y", "in.t.3"]
    assert [one.default for one in found] == [True, False]


# ── iopaths ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("output avg_confidence 0", "out.avg_confidence.0"),
        ("Output avg_confidence", "out.avg_confidence"),
        ("  INPUT tensor 3 4 ", "in.tensor.3.4"),
        ("in input.1 0", "in.input.1.0"),
        ("out.a.b.0", "out.a.b.0"),
        ("output my field 2", "out.my field.2"),
    ],
)
def test_every_spelling_has_one_key(text: str, key: str):
    assert canonical(text) == key


@pytest.mark.parametrize("text", ["", "avg_confidence", "output", "outptu x 0", "output x -1", "0"])
def test_what_spells_no_field_is_refused_with_an_example(text: str):
    with pytest.raises(InvalidInputError, match=r"for example 'output avg_confidence 0'|count from 0"):
        canonical(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output sharpnes", "has no field 'out.sharpnes'.*it has: .*out.sharpness float64.*in.image uint8"),
        ("input avg_confidence", "has no field 'in.avg_confidence'"),
        ("output empty 1", "."),
        ("output boxes 0", r"has 2 dimension\(s\) and the path 1 index"),
        ("output boxes 0 4", "has no element 4; the last is 3"),
    ],
)
def test_an_iopath_that_names_no_field_is_told_what_there_is(text: str, message: str):
    definition = make_definition("p", [step([FRAME], FOUND, detector={})])
    with pytest.raises(InvalidInputError, match=message):
        resolve(text, definition)


def test_a_name_with_a_dot_and_a_number_is_itself_before_it_is_an_index():
    definition = make_definition("p", [step([field("input.1", "float32", 2)], [field("758", "float32")])])
    assert resolve("in.input.1.1", definition).index == (1,)
    assert resolve("output 758 0", definition).key == "out.758"
