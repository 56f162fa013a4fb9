"""What people do to a standing assay besides switching it: edited with a history, copied, removed.

An *edit* makes a new version of the assay: windows that have not ended yet are answered as it asks from now on, under
the baselines it had, calibrated anew where it keeps a promise. Windows that have ended keep the question they had, also
where their device is heard only later, and answers keep the version they were given under. The evidence begins again,
and open incidents are over: what was an alarm under one question says nothing of another.

A *copy* is another assay with a history of its own. On the same pipeline it compares with the very baselines that the
first one compares with now, and begins with the next window; on another pipeline, or with another baseline, it is asked
anew, as one that is saved for the first time.

What is *removed* is gone with its answers and baselines. Its incidents are resolved and stay, with what happened to
them and under its name.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection

from driftline.assay.window import WindowPlan, plan_of
from driftline.clock import iso
from driftline.errors import ConflictError
from driftline.hub import calendars, causes, registry
from driftline.hub.accounts.audit import flat
from driftline.hub.assays import count_where_cut, devices_of, plan_of_kept, routes, save, standing_notes
from driftline.hub.calendars import Calendars
from driftline.hub.core import Hub
from driftline.hub.http import Call
from driftline.hub.limits import check_words
from driftline.hub.observations import Target, baseline_of
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.promises import Footings, level_of, seen_by
from driftline.hub.question import Calibrated, Question, calibrate, check_asked, fixed_notes
from driftline.hub.store import assays as store
from driftline.hub.store import baselines as versions
from driftline.hub.store import editions
from driftline.hub.store.baselines import Calibrating, Material, Place
from driftline.hub.store.editions import Edition
from driftline.wire import api


@routes.post("/assays/{assay}/edit", policy=EDITOR, body=api.AssayEdit, raises=(ConflictError,))
def edit_assay(call: Call[api.AssayEdit]) -> api.Assay:
    """Let a standing assay ask something else of the windows that have not ended yet."""
    return edit(call.hub, call.path["assay"], call.body, call.who.called(call.body.by))


@routes.get("/assays/{assay}/history", policy=VIEWER)
def list_editions(call: Call[None]) -> list[api.Edition]:
    """List how a standing assay was edited, the first time first."""
    with call.hub.database.reading() as connection:
        return history(connection, store.one(connection, call.path["assay"]).assay.id)


@routes.post("/assays/{assay}/clone", policy=EDITOR, body=api.NewClone, raises=(ConflictError,))
def clone_assay(call: Call[api.NewClone]) -> api.Assay:
    """Copy a standing assay to a new name, or to another pipeline; the copy begins with the next window."""
    return clone(call.hub, call.path["assay"], call.body)


@routes.delete("/assays/{assay}", policy=EDITOR)
def remove_assay(call: Call[None]) -> None:
    """Remove a standing assay with its answers and baselines; its incidents are resolved and stay."""
    remove(call.hub, call.path["assay"])


# ── the baselines it goes on with ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Carried:
    """A version of an assay's baselines, of which some are still the newest, with these."""

    told: api.BaselineVersion
    materials: Mapping[Place, Material]


def carried_of(connection: Connection, assay: str, devices: Collection[str] | None = None) -> list[Carried]:
    """Return what windows are compared with now, version by version: each says what its own baselines are made of.

    Of some `devices` those that they saw are returned, also where one of them serves all.
    """
    newest = versions.newest(connection, assay)
    carried = [
        Carried(
            told,
            {
                place: material
                for place, (version, material) in newest.items()
                if version == told.version and (devices is None or seen_by(told.baseline, place) in devices)
            },
        )
        for told in versions.versions(connection, assay)
    ]
    return [one for one in carried if one.materials]


def renumbered(carried: Sequence[Carried], first: int, **facts: Any) -> list[Carried]:
    """Return the same baselines as later versions, with new facts."""
    return [
        Carried(msgspec.structs.replace(one.told, version=version, **facts), one.materials)
        for version, one in enumerate(carried, first)
    ]


# ── edited ───────────────────────────────────────────────────────────────────────────────────────────────────────


def edit(hub: Hub, assay: str, asked: api.AssayEdit, actor: str) -> api.Assay:
    """Let a standing assay ask something else from the first window on that has not ended; nothing new changes nothing.

    Raises:
        EntityNotFoundError: there is no such assay.
        InvalidInputError: it cannot be asked, or no baseline carries the promise; everything is then as it was.
        ConflictError: it was changed meanwhile.
    """
    check_words(asked.note, actor)
    with hub.database.reading() as connection:
        kept = store.one(connection, assay)
        carried = carried_of(connection, assay)
    before = kept.assay
    spec = _edited(before.spec, asked)
    if spec == before.spec:
        return before
    check_asked(spec)
    carried = renumbered(carried, before.baseline_version + 1)
    present = calendars.now(hub, before.workspace, spec.calendar)
    questions = [question_of(hub, kept, spec, one, present) for one in carried]
    found, notes = _calibrated(hub, questions, carried, _weighing_plan(kept, spec))
    with hub.database.writing() as connection:
        if store.baseline_versions(connection, [assay]).get(assay) != before.baseline_version:
            raise ConflictError(f"assay {before.spec.name!r} was changed meanwhile; look at it first")
        calendars.check_still(connection, hub, present)
        now_ns, plan = hub.now_ns(), plan_of_kept(kept)
        start_ns = None if plan is None else plan.open_at(now_ns)
        facts = {"from_ns": start_ns or 0, "created_ns": now_ns, "notes": ["the question was edited"]}
        for one, calibrated in zip(renumbered(carried, carried[0].told.version, **facts), found, strict=True):
            versions.add_version(connection, assay, one.told, one.materials)
            for place, calibrating in calibrated.items():
                versions.put_calibration(connection, assay, one.told.version, place, calibrating)
        if not editions.every(connection, assay):
            first = Edition(1, kept.start_ns, before.created_ns, "", "", before.spec)
            editions.add(connection, assay, first)
        version = carried[0].told.version
        editions.add(connection, assay, Edition(version, start_ns, now_ns, actor, asked.note.strip(), spec))
        store.set_baseline(connection, assay, spec, carried[-1].told.version, notes)
        if start_ns is not None:
            store.set_start(connection, assay, start_ns)
            # A window may have ended, and been answered, while this was worked out.
            store.rewind(connection, assay, start_ns)
        causes.resolve_of_assay(connection, assay, f"the assay was edited (version {version})", now_ns)
        after = store.one(connection, assay).assay
    hub.wake.set()
    hub.outbox.set()
    return after


def _edited(spec: api.AssaySpec, asked: api.AssayEdit) -> api.AssaySpec:
    names = ("alarm", "windows", "calendar", "min_count", "run_until_ns")
    facts = {name: value for name in names if (value := getattr(asked, name)) is not msgspec.UNSET}
    if isinstance(asked.windows, api.Windows):
        # They begin where those so far are cut.
        facts["windows"] = msgspec.structs.replace(asked.windows, start_ns=spec.windows.start_ns)
    return msgspec.structs.replace(spec, **facts)


def _weighing_plan(kept: store.Kept, spec: api.AssaySpec) -> WindowPlan | None:
    """Return the new windows since the assay has any: how many inferences one holds is known from those that passed."""
    if kept.start_ns is None:
        return None
    return plan_of(msgspec.structs.replace(spec.windows, start_ns=kept.start_ns), None, rows=False)


def question_of(hub: Hub, kept: store.Kept, spec: api.AssaySpec, carried: Carried, present: Calendars) -> Question:
    """Return the question that some of an assay's baselines are to answer."""
    return Question(
        spec=msgspec.structs.replace(spec, baseline=carried.told.baseline),
        targets={name: Target(spec.pipeline, "", name, kind) for name, kind in kept.field_types.items()},
        devices=devices_of(hub, kept),
        materials=carried.materials,
        baselines={
            place: baseline_of(hub, material, kept.field_types[place.field])
            for place, material in carried.materials.items()
        },
        notes=[],
        projections={},
        calendars=present,
    )


def _calibrated(
    hub: Hub, questions: Sequence[Question], carried: Sequence[Carried], plan: WindowPlan | None
) -> tuple[list[Mapping[Place, Calibrating]], list[str]]:
    """Calibrate baselines for a question that was edited, and say what is to be said of it.

    Raises:
        InvalidInputError: none carries the promise.
    """
    now_ns = hub.now_ns()
    found = [
        calibrate(hub, one, plan, now_ns, own.told.version).found for one, own in zip(questions, carried, strict=True)
    ]
    places = {own.told.version: set(own.materials) for own in carried}
    known = {
        (own.told.version, place): one
        for own, every in zip(carried, found, strict=True)
        for place, one in every.items()
    }
    footings = Footings(dict.fromkeys(places, 0), places, known)
    # Of several versions the newest that a place has is the one its windows are compared with.
    newest = {place: one for every in found for place, one in every.items()}
    level = level_of(questions[-1].spec, footings, questions[-1].devices)
    notes = standing_notes(Calibrated(footings, level, newest, {}))
    for one in questions:
        notes += [note for note in fixed_notes(hub, one, plan, now_ns) if note not in notes]
    return list(found), notes


def history(connection: Connection, assay: str) -> list[api.Edition]:
    """Return how an assay was edited, the first time first."""
    told: list[api.Edition] = []
    for before, after in pairwise(editions.every(connection, assay).get(assay, ())):
        was, now = (flat(msgspec.to_builtins(one.spec)) for one in (before, after))
        names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
        told.append(
            api.Edition(
                version=after.version,
                from_ns=after.start_ns,
                at_ns=after.at_ns,
                actor=after.actor,
                note=after.note,
                before={name: was[name] for name in names if name in was},
                after={name: now[name] for name in names if name in now},
            )
        )
    return told


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
    with hub.database.writing() as connection:
        carried, known = carried_of(connection, source.id), versions.calibrations(connection, source.id)
        own = renumbered(carried, 1, from_ns=0, created_ns=now_ns)
        copy = msgspec.structs.replace(
            source,
            id=str(uuid4()),
            spec=msgspec.structs.replace(spec, windows=msgspec.structs.replace(spec.windows, start_ns=start_ns)),
            active=True,
            created_ns=now_ns,
            baseline_version=own[-1].told.version,
            notes=[*source.notes, said],
        )
        materials = [(one.told, one.materials) for one in own]
        store.save(connection, copy, field_types=kept.field_types, start_ns=start_ns, versions=materials)
        numbers = {one.told.version: after.told.version for one, after in zip(carried, own, strict=True)}
        for (version, place), one in known.items():
            if version in numbers:
                versions.put_calibration(connection, copy.id, numbers[version], place, one)
    targets = {name: Target(spec.pipeline, "", name, kind) for name, kind in kept.field_types.items()}
    count_where_cut(hub, targets, copy.spec, copy.id)
    hub.wake.set()
    return copy


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
