"""Markup that cannot be forgotten to escape: text goes in as text, and only `el` makes tags.

>>> el("a", "<camera>", href="/devices/a&b")
'<a href="/devices/a&amp;b">&lt;camera&gt;</a>'
"""

from collections.abc import Iterable
from html import escape as _escape
from urllib.parse import quote

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Html(str):
    """Text that is markup already; a plain `str` never is."""

    __slots__ = ()


Content = str | int | float | None | Iterable["Content"]
Attribute = str | int | float | bool | None


def text(content: Content) -> Html:
    """Return content as markup: `Html` as it is, everything else escaped, None as nothing.

    >>> text(["a<b", None, Html("<br>")])
    'a&lt;b<br>'
    """
    if isinstance(content, Html):
        return content
    if content is None:
        return Html()
    if isinstance(content, str | int | float):
        return Html(_escape(str(content)))
    return Html("".join(text(one) for one in content))


def el(tag: str, *content: Content, **attributes: Attribute) -> Html:
    """Return one element; `class_` is class, `aria_label` aria-label; an attribute of None or False is left out."""
    # By identity: 0 is a value, and equals False.
    given = {name: value for name, value in attributes.items() if value is not None and value is not False}
    parts = [tag, *(_attribute(name, value) for name, value in given.items())]
    opening = f"<{' '.join(parts)}>"
    return Html(opening) if tag in VOID else Html(f"{opening}{text(content)}</{tag}>")


def path(*segments: str) -> str:
    """Return the address of a page; a name with a slash or a question mark stays one segment.

    >>> path("devices", "shop/1")
    '/devices/shop%2F1'
    """
    return "/" + "/".join(quote(one, safe="") for one in segments)


def _attribute(name: str, value: Attribute) -> str:
    spelled = name.rstrip("_").replace("_", "-")
    return spelled if value is True else f'{spelled}="{_escape(str(value))}"'
