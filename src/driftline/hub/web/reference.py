"""The API as a page a person can read: made of the same document as `/openapi.json`, on the hub, without scripts."""

from collections.abc import Mapping
from typing import Any

from driftline.hub.web.html import Content, Html, el
from driftline.hub.web.parts import empty, page, section, table
from driftline.hub.web.views import View

Document = Mapping[str, Any]


def reference(view: View, document: Document) -> str:
    """Render every route by what it is about, then every message."""
    by_tag: dict[str, list[Html]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    messages = [_message(name, schema) for name, schema in document["components"]["schemas"].items()]
    told = [el("p", one.replace("\n", " "), class_="lead") for one in document["info"]["description"].split("\n\n")]
    contents = [el("a", tag, href=f"#{tag}") for tag in by_tag]
    return page(
        view,
        "API",
        "",
        "/openapi.json",
        el("h1", "API"),
        *told,
        el("p", [[" ", one] for one in contents], " ", el("a", "messages", href="#messages"), class_="fields"),
        *(el("div", section(tag, *blocks), id=tag) for tag, blocks in by_tag.items()),
        el("div", section("Messages", *messages), id="messages"),
        live=False,
    )


def _operation(method: str, path: str, operation: Document) -> Html:
    who = operation["x-policy"]
    parameters = [
        [el("code", one["name"]), one["in"], _type(one["schema"]), _default(one["schema"], required=one["required"])]
        for one in operation["parameters"]
    ]
    body = operation.get("requestBody")
    answers = [
        [status, _media(answer), answer["description"].replace("`", "")]
        for status, answer in operation["responses"].items()
    ]
    return el(
        "article",
        el("h3", el("code", f"{method.upper()} {path}"), id=operation["operationId"]),
        el("p", operation["summary"]),
        el("p", operation["description"]) if operation["description"] else None,
        el("p", "Who may: ", el("b", who), [", body: ", _media(body)] if body else None, class_="soft"),
        table(("parameter", "in", "type", "default"), parameters) if parameters else None,
        el("details", el("summary", "Answers"), table(("status", "body", "meaning"), answers)),
    )


def _message(name: str, schema: Document) -> Html:
    required = schema.get("required", [])
    rows = [
        [el("code", field), _type(one), _default(one, required=field in required)]
        for field, one in schema.get("properties", {}).items()
    ]
    return el(
        "article",
        el("h3", el("code", name), id=f"message-{name}"),
        el("p", schema.get("description", "").replace("`", "")),
        table(("field", "type", "default"), rows) if rows else empty("It has no fields."),
    )


def _media(content: Document) -> list[Content]:
    found: list[Content] = []
    for media, one in content["content"].items():
        found += [_type(one["schema"]) if media == "application/json" else el("code", media)]
    return found


def _default(schema: Document, *, required: bool) -> str:
    if required:
        return "required"
    return str(schema["default"]) if "default" in schema else "–"


def _type(schema: Document) -> Content:
    """Say what a schema takes; messages are links to where they are told."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return el("a", name, href=f"#message-{name}")
    for kinds in ("anyOf", "oneOf"):
        if kinds in schema:
            told = [_type(one) for one in schema[kinds]]
            return [told[0], *([" or ", one] for one in told[1:])]
    if "enum" in schema:
        return ", ".join(str(one) for one in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return ["list of ", _type(schema.get("items", {}))]
    if kind == "object":
        if items := schema.get("properties", {}).get("items"):
            return _type(items)
        inner = schema.get("additionalProperties")
        return ["object of ", _type(inner)] if isinstance(inner, Mapping) else "object"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([str(kind), *bounds])
