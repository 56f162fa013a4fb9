"""The OpenAPI 3.1 document, made of the routes themselves: what a decorator and its handler declare, and nothing else.

Schemas are those that msgspec makes of the messages which are really decoded and encoded, so that the document cannot
say anything but what the hub does.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

import driftline
from driftline.errors import (
    DriftlineError,
    EntityNotFoundError,
    InvalidInputError,
    NotAllowedError,
    NotLoggedInError,
    StaleRequestError,
    TemporaryError,
)
from driftline.hub.http import FORM, HTML, JSON, InternalError, Rule, status_of
from driftline.hub.limits import TooLargeError, TooOftenError, TooSlowError, WrongMediaError
from driftline.wire import api

Document = dict[str, Any]

REF = "#/components/schemas/{name}"
DESCRIPTION = """\
What programs ask a driftline hub. Times are nanoseconds since 1970 UTC in fields that end in `_ns`, durations end in
`_s`. An answer is the thing itself; a list is `items`, and where more follows `next`: ask again with `after=` that.
A failure is `error` with a `code` that never changes, and a `message` for a person.
"""


def document(rules: Iterable[Rule]) -> Document:
    """Return the document of these routes."""
    # Pages are for people; each has a twin for programs.
    declared = sorted((one for one in rules if one.media != HTML), key=lambda rule: (rule.path, rule.method))
    named = {_messages(rule) for rule in declared}
    types = sorted({one for messages in named for one in messages}, key=repr)
    (*schemas, _), components = msgspec.json.schema_components(
        [*types, api.ErrorReply], ref_template=REF, schema_hook=_anything
    )
    schema_of = {repr(one): _plain(schema) for one, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Document] = {}
    for rule in declared:
        paths.setdefault(rule.path, {})[rule.method.lower()] = _operation(rule, schema_of)
    tags = sorted({_tag(rule) for rule in declared})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "driftline hub",
            "version": driftline.__version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": {_short(name): _plain(schema) for name, schema in sorted(components.items())},
            "securitySchemes": SECURITY,
        },
    }


SECURITY: Document = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, or what `driftline login` was given."},
    "session": {"type": "apiKey", "in": "cookie", "name": "driftline", "description": "A browser's login."},
    "device": {
        "type": "apiKey",
        "in": "header",
        "name": "Driftline-Signature",
        "description": "HMAC-SHA256 with the device's key; docs/sync-protocol.md says over what.",
    },
}


# What RFC 6749 says of how a grant is refused; programs of others know no other form.
OAUTH_ERROR: Document = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
    "required": ["error", "error_description"],
}


def answer_of(rule: Rule) -> Any:
    """Return the message that a handler's annotation says it returns; None of one that returns other bytes."""
    if rule.media is not None:
        return None
    return rule.answer or get_type_hints(rule.handler)["return"]


def errors_of(rule: Rule) -> list[type[DriftlineError]]:
    """Return what a route may answer with besides its answer: what it declares, and what follows from its kind."""
    found: set[type[DriftlineError]] = {*rule.raises, TooOftenError, TemporaryError, InternalError, NotAllowedError}
    if rule.method in {"POST", "PUT"}:
        found |= {InvalidInputError, TooLargeError, TooSlowError}
    if rule.query is not None:
        found.add(InvalidInputError)
    if rule.policy.kind not in {"public", "device"}:
        found.add(NotLoggedInError)
    if "{" in rule.path:
        found.add(EntityNotFoundError)
    if rule.policy.kind == "device":
        found.add(StaleRequestError)
    return sorted({*found, WrongMediaError}, key=lambda error: (status_of(error), error.code))


def query_of(rule: Rule) -> list[Document]:
    """Return the parameters of a route's query."""
    if rule.query is None:
        return []
    (_,), components = msgspec.json.schema_components([rule.query], ref_template=REF)
    schema = components[rule.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _plain(_not_null(one))}
        for name, one in schema["properties"].items()
    ]


def _messages(rule: Rule) -> tuple[Any, ...]:
    answer = answer_of(rule)
    items = get_args(answer) if _is_list(answer) else (answer,)
    return tuple(one for one in (rule.body, *items) if one is not None and one is not type(None))


def _is_list(answer: Any) -> bool:
    origin = get_origin(answer)
    return isinstance(origin, type) and issubclass(origin, list)


def _operation(rule: Rule, schema_of: Mapping[str, Document]) -> Document:
    summary, _, more = (rule.handler.__doc__ or "").strip().partition("\n")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in names_in(rule.path)
    ]
    operation: Document = {
        "operationId": rule.handler.__name__,
        "summary": summary,
        "description": more.partition("Raises:")[0].strip(),
        "tags": [_tag(rule)],
        "x-policy": str(rule.policy),
        "parameters": [*parameters, *query_of(rule)],
        "responses": _responses(rule, schema_of),
    }
    if rule.policy.kind not in {"public", "device"}:
        # Nothing at all is asked of who asks a hub without accounts.
        operation["security"] = [{"bearer": []}, {"session": []}, {}]
    if rule.policy.kind == "device":
        operation["security"] = [{"device": []}]
    if rule.body is not None:
        operation["requestBody"] = _content(JSON, schema_of[repr(rule.body)]) | {"required": True}
    elif rule.takes == FORM:
        fields = {"type": "object", "additionalProperties": {"type": "string"}}
        operation["requestBody"] = _content(FORM, fields) | {"required": True}
    elif rule.takes is not None:
        operation["requestBody"] = _content(rule.takes, {"type": "string", "format": "binary"}) | {"required": True}
    return operation


def _responses(rule: Rule, schema_of: Mapping[str, Document]) -> Document:
    answer = answer_of(rule)
    if rule.media is not None:
        schema: Document = {} if rule.media == JSON else {"type": "string", "format": "binary"}
    elif answer is type(None):
        schema = {"type": "object", "additionalProperties": False}
    elif _is_list(answer):
        items = schema_of[repr(get_args(answer)[0])]
        schema = {"type": "object", "properties": {"items": {"type": "array", "items": items}}, "required": ["items"]}
        if rule.query is not None:
            schema["properties"]["next"] = {"type": "string"}
    else:
        schema = schema_of[repr(answer)]
    made = {"200": {"description": "It was done."} | _content(rule.media or JSON, schema)}
    by_status: dict[int, list[str]] = {}
    for error in errors_of(rule):
        by_status.setdefault(status_of(error), []).append(error.code)
    failed = {"$ref": REF.format(name="ErrorReply")}
    for status, codes in sorted(by_status.items()):
        told = f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in dict.fromkeys(codes))}"
        refused = {"anyOf": [OAUTH_ERROR, failed]} if rule.takes == FORM and status == 400 else failed
        made[str(status)] = {"description": told} | _content(JSON, refused)
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            made[str(status)]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return made


def _content(media: str, schema: Document) -> Document:
    return {"content": {media: {"schema": schema}}}


def _tag(rule: Rule) -> str:
    return rule.handler.__module__.rpartition(".")[2]


def names_in(path: str) -> list[str]:
    """Return the names of a path's parameters.

    >>> names_in("/devices/{name}/link")
    ['name']
    """
    return [part.partition("}")[0] for part in path.split("{")[1:]]


def _anything(kind: type) -> Document:
    """Return the schema of what may be anything, such as the details of an event."""
    if kind is not object:
        raise NotImplementedError
    return {"description": "Anything."}


def _not_null(schema: Document) -> Document:
    """Return the schema of what can stand in an address, where null cannot; what may be null may be left out."""
    kinds: Sequence[Document] = schema.get("anyOf", [])
    rest = [kind for kind in kinds if kind != {"type": "null"}]
    more = {name: value for name, value in schema.items() if name not in {"anyOf", "default"} or value is not None}
    more.pop("anyOf", None)
    return more | rest[0] if len(rest) == 1 else schema


def _short(name: str) -> str:
    """Return a message's name; msgspec gives one that two modules have its module, too.

    >>> _short("driftline.hub.web.views.Assay"), _short("driftline.wire.api.Assay"), _short("Link")
    ('AssayPage', 'Assay', 'Link')
    """
    module, _, own = name.rpartition(".")
    return own + ("Page" if module.endswith("views") else "")


def _plain(schema: Any) -> Any:
    """Return a schema without what only Python wants to know."""
    if isinstance(schema, Mapping):
        if isinstance(named := schema.get("$ref"), str):
            return {"$ref": REF.format(name=_short(named.rpartition("/")[2]))}
        return {name: _plain(one) for name, one in schema.items() if name != "title" or not isinstance(one, str)}
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema
