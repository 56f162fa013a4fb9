"""Who asks, and whether a policy lets them: decisions only.

>>> anna = Principal("1", "anna", roles={"shop": "editor"})
>>> anna.may(EDITOR, ["shop"]), anna.may(OWNER, ["shop"]), anna.may(VIEWER, ["bank"])
(True, False, False)
>>> replace(anna, scope="viewer").may(EDITOR, ["shop"])
False
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from driftline.hub.policy import EDITOR, OWNER, VIEWER, Policy
from driftline.wire.api import Role, Scope

# Who acted where nobody said who they are: whoever may ask this hub at all.
SOMEBODY = "somebody"
RANK: Mapping[str, int] = {"viewer": 1, "editor": 2, "owner": 3, "admin": 4}


@dataclass(frozen=True)
class Principal:
    """Somebody who is known: `roles` by workspace; `scope` is the most that what they came with allows."""

    person: str | None
    name: str
    is_admin: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict[str, Role])
    scope: Scope = "admin"
    credential: str | None = None
    by_cookie: bool = False

    @property
    def visible(self) -> frozenset[str] | None:
        """The workspaces whose things they may see; None means all."""
        return None if self.is_admin else frozenset(self.roles)

    def called(self, by: str | None) -> str:
        """Return who acts: whoever is logged in; a hub without accounts takes people's word.

        >>> LOCAL.called(" Ada "), LOCAL.called(None), Principal("1", "anna").called("Ada")
        ('Ada', 'somebody', 'anna')
        """
        return (by or "").strip() or SOMEBODY if self.person is None else self.name

    def rank(self, workspace: str) -> int:
        """Return how much they may do in a workspace: 0 nothing, 4 everything."""
        own = RANK["admin"] if self.is_admin else RANK.get(self.roles.get(workspace, ""), 0)
        return min(own, RANK[self.scope])

    def sees(self, workspaces: Sequence[str]) -> bool:
        """Say whether they may know of what is in these workspaces; what is in none is the admins' alone."""
        return self.is_admin or any(self.rank(one) for one in workspaces)

    def may(self, policy: Policy, workspaces: Sequence[str] = ()) -> bool:
        """Say whether a policy lets them, for something in these workspaces.

        A device may run pipelines of several: who may look into one of them sees it, and to change it a person needs
        the role in all.
        """
        if policy.kind in {"public", "device"}:
            return True
        needed = RANK[policy.role or "admin"]
        if policy.kind == "member":
            return RANK[self.scope] >= needed
        if policy.kind == "admin" or not workspaces:
            return self.is_admin and RANK[self.scope] >= needed
        ranks = [self.rank(one) for one in workspaces]
        return (max(ranks) if policy == VIEWER else min(ranks)) >= needed


# On a hub without accounts whoever may ask is its owner.
LOCAL = Principal(None, "this machine", is_admin=True)
# Who a page is made for: its frame names them, whatever it shows.
READER: ContextVar[Principal] = ContextVar("driftline_reader", default=LOCAL)

__all__ = ["EDITOR", "LOCAL", "OWNER", "RANK", "READER", "VIEWER", "Principal", "Scope", "replace"]
