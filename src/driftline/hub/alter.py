"""What people do to a standing assay besides switching it: copied and removed.

A *copy* is another assay with a history of its own. On the same pipeline it compares with the very baselines that the
first one compares with now, and begins with the next window; on another pipeline, or with another baseline, it is asked
anew, as one that is saved for the first time.

What is *removed* is gone with its answers and baselines. Its incidents are resolved and stay, with what happened to
them and under its name.
"""

from collections.abc import Mapping
from uuid import uuid4

import msgspec

from driftline.clock import iso
from driftline.errors import ConflictError
from driftline.hub import causes, registry
from driftline.hub.assays import count_where_cut, plan_of_kept, routes, save
from driftline.hub.core import Hub
from driftline.hub.http import Call
from driftline.hub.observations import Target
from driftline.hub.policy import EDITOR
from driftline.hub.store import assays as store
from driftline.hub.store import baselines as versions
from driftline.hub.store.baselines import EVERY_DEVICE, Calibrating, Material, Place
from driftline.wire import api


@routes.post("/assays/{assay}/clone", policy=EDITOR, body=api.NewClone, raises=(ConflictError,))
def clone_assay(call: Call[api.NewClone]) -> api.Assay:
    """Copy a standing assay to a new name, or to another pipeline; the copy begins with the next window."""
    return clone(call.hub, call.path["assay"], call.body)


@routes.delete("/assays/{assay}", policy=EDITOR)
def remove_assay(call: Call[None]) -> None:
    """Remove a standing assay with its answers and baselines; its incidents are resolved and stay."""
    remove(call.hub, call.path["assay"])


# ── copied ───────────────────────────────────────────────────────────────────────────────────────────────────────


def clone(hub: Hub, assay: str, new: api.NewClone) -> api.Assay:
    """Save a copy of a standing assay and start its scheduled runs.

    Raises:
        EntityNotFoundError: no such assay, or no such pipeline in its workspace.
        ConflictError: the workspace has an assay of this name.
        InvalidInputError: the other pipeline has no such field, or saw nothing in the time of the baseline.
    """
    with hub.database.reading() as connection:
        kept = store.one(connection, assay)
    spec = kept.assay.spec
    if new.pipeline in {None, spec.pipeline} and new.baseline is None:
        return _copy(hub, kept, new.name)
    changed = msgspec.structs.replace(
        spec, name=new.name, pipeline=new.pipeline or spec.pipeline, baseline=new.baseline or spec.baseline
    )
    return save(hub, kept.assay.workspace, _unended(changed, hub.now_ns()))


def _copy(hub: Hub, kept: store.Kept, name: str) -> api.Assay:
    """Save an assay that compares with the same frozen baselines."""
    now_ns, source = hub.now_ns(), kept.assay
    spec = _unended(msgspec.structs.replace(source.spec, name=registry.check_name("assay", name)), now_ns)
    plan = plan_of_kept(kept)
    start_ns = None if plan is None else plan.begin_from(now_ns)
    said = f"a copy of assay {source.spec.name!r}, with the baselines it had at {iso(now_ns)}"
    copy = msgspec.structs.replace(
        source,
        id=str(uuid4()),
        spec=msgspec.structs.replace(spec, windows=msgspec.structs.replace(spec.windows, start_ns=start_ns)),
        active=True,
        created_ns=now_ns,
        baseline_version=1,
        notes=[*source.notes, said],
    )
    with hub.database.writing() as connection:
        newest = versions.newest(connection, source.id)
        known = versions.calibrations(connection, source.id)
        materials = {place: material for place, (_, material) in newest.items()}
        store.save(connection, copy, field_types=kept.field_types, start_ns=start_ns, baselines_by_place=materials)
        for place, one in calibrations_of(newest, known).items():
            versions.put_calibration(connection, copy.id, copy.baseline_version, place, one)
    targets = {name: Target(spec.pipeline, "", name, kind) for name, kind in kept.field_types.items()}
    count_where_cut(hub, targets, copy.spec, copy.id)
    hub.wake.set()
    return copy


def calibrations_of(
    newest: Mapping[Place, tuple[int, Material]], known: Mapping[tuple[int, Place], Calibrating]
) -> dict[Place, Calibrating]:
    """Return what calibrating the newest baselines came to: those a device's own, and those of one for all."""
    found: dict[Place, Calibrating] = {}
    for (version, place), one in known.items():
        material = newest.get(place) or newest.get(Place(EVERY_DEVICE, place.field))
        if material is not None and material[0] == version:
            found[place] = one
    return found


def _unended(spec: api.AssaySpec, now_ns: int) -> api.AssaySpec:
    """Return a spec that runs: the end of the first one may be long past."""
    ended = spec.run_until_ns is not None and spec.run_until_ns <= now_ns
    return msgspec.structs.replace(spec, run_until_ns=None) if ended else spec


# ── removed ──────────────────────────────────────────────────────────────────────────────────────────────────────


def remove(hub: Hub, assay: str) -> None:
    """Remove a standing assay; whoever was told of its incidents is told that they are over.

    Raises:
        EntityNotFoundError: there is no such assay.
    """
    with hub.database.writing() as connection:
        store.one(connection, assay)
        causes.resolve_of_assay(connection, assay, "the assay was removed", hub.now_ns())
        store.remove(connection, assay, hub.now_ns())
    hub.outbox.set()
