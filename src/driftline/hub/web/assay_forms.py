"""What a person can do about an assay on its page: copy it, remove it."""

from driftline.hub import alter
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.parts import confirmed
from driftline.hub.web.routing import Fields, acts
from driftline.wire import api


def forms(assay: api.Assay) -> list[Content]:
    """Return what can be done besides switching it."""
    return [_clone(assay), _removed(assay)]


def _clone(assay: api.Assay) -> Html:
    return el(
        "form",
        el("button", "Copy", type="submit"),
        el("label", "to the name ", el("input", name="name", required=True, maxlength=100, autocomplete="off")),
        el("span", "It compares with the same baselines, and begins with the next window.", class_="soft"),
        method="post",
        action=path("assays", assay.id, "clone"),
        class_="fields-form",
    )


def _removed(assay: api.Assay) -> Html:
    what = [
        "Assay ", el("b", assay.spec.name), " is gone then, with its answers and baselines. Its incidents are",
        " over, and stay with what happened to them. To keep its answers, switch it off instead.",
    ]  # fmt: skip
    return confirmed("Remove", what, path("assays", assay.id, "remove"), "Yes, remove it")


def _do_clone(call: Call[None], assay: str, fields: Fields) -> str:
    return path("assays", alter.clone(call.hub, assay, api.NewClone(name=fields.get("name", ""))).id)


def _do_remove(call: Call[None], assay: str, _fields: Fields) -> str:
    alter.remove(call.hub, assay)
    return "/assays"


def register(routes: Routes) -> None:
    """Give the forms their addresses."""
    acts(routes, "/assays/{assay}/clone", _do_clone, policy=EDITOR)
    acts(routes, "/assays/{assay}/remove", _do_remove, policy=EDITOR)
