"""Who may ask what: every route declares one of these policies, and one without cannot be registered.

    PUBLIC   anybody: what says nothing about the fleet
    DEVICE   a device, which signs its request; the handler itself says whom it believes
    MEMBER   anybody who is logged in; lists hold what they may see
    MAKER    the same, with leave to make something
    VIEWER, EDITOR, OWNER
             that role, or a higher one, in the workspace that the address names
    ADMIN    an admin of the hub
    OVERSEER an admin, also with what allows no more than to look

On a hub without accounts whoever may ask at all is its admin: `driftline.hub.server.Guard` lets nobody else through.
"""

from dataclasses import dataclass
from typing import Literal

from driftline.wire.api import Role

Kind = Literal["public", "device", "member", "role", "admin"]


@dataclass(frozen=True)
class Policy:
    """Who may ask; `role` is the least one needed in the workspace or, of a member, what a token must allow."""

    kind: Kind
    role: Role | None = None

    def __str__(self) -> str:
        """Return it in a word.

        >>> str(PUBLIC), str(EDITOR)
        ('public', 'editor')
        """
        return self.role if self.kind == "role" and self.role else self.kind


PUBLIC = Policy("public")
DEVICE = Policy("device")
MEMBER = Policy("member", "viewer")
MAKER = Policy("member", "editor")
VIEWER = Policy("role", "viewer")
EDITOR = Policy("role", "editor")
OWNER = Policy("role", "owner")
ADMIN = Policy("admin")
OVERSEER = Policy("admin", "viewer")
