"""The commands `yunying study …` and `yunying patient …`: decisions about what is stored."""

from __future__ import annotations

import functools
import getpass
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from archive.decisions.domain import (
    CHOOSE,
    CLASSIFY,
    CORRECT,
    DELETE,
    HOLD,
    REJECT,
    REJECTION_CODES,
    RELEASE,
    RESTORE,
    PatientKey,
    Ref,
)
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import Invalid
from kernel.scope import SENSITIVE_KINDS, Actor, Scope
from server.command import Where, settings_options, with_database

if TYPE_CHECKING:
    from archive.decisions.domain import Decision, StudyState
    from archive.decisions.service import Desk
    from kernel.db.database import Database
    from kernel.settings import Settings


@click.group()
def study() -> None:
    """Decide about stored studies: nothing stored is changed, every decision is kept."""


@click.group()
def patient() -> None:
    """Decide which patients are the same."""


def _deciding(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every decision: what it is about, whose it is, and why."""

    @click.argument("uid")
    @click.option("--series", default="", help="Only this series of the study.")
    @click.option("--instance", default="", help="Only this instance of the series.")
    @click.option("--owner", "owner_id", type=int, help="Only of this institution.")
    @click.option("--reason", required=True, help="Why; kept with the decision.")
    @settings_options
    @functools.wraps(command)
    def with_reference(uid: str, series: str, instance: str, **options: Any) -> None:
        ref: Ref = StudyRef.parse(uid)
        if instance:
            ref = InstanceRef.parse(uid, series, instance)
        elif series:
            ref = SeriesRef.parse(uid, series)
        command(ref=ref, **options)

    return with_reference


@study.command()
@_deciding
@click.argument("values", nargs=-1)
@click.option("--as-received", multiple=True, help="Attribute that gets its old value back.")
def correct(
    where: Where, ref: Ref, values: Sequence[str], as_received: Sequence[str], **decided: Any
) -> None:
    """Show other values: study correct UID PatientName="Wang^Li" StudyDescription=CT."""
    from dataset.correction import attribute_of, tag_of

    attributes: dict[str, Any] = {f"{tag_of(name):08X}": None for name in as_received}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals:
            raise Invalid("correct.value", "“{value}” is not NAME=VALUE", value=value)
        attributes[f"{tag_of(name):08X}"] = attribute_of(tag_of(name), text)
    _decide(where, CORRECT, ref, {"attributes": attributes}, **decided)


@study.command()
@_deciding
@click.option(
    "--code", required=True, help="; ".join(f"{c}: {name}" for c, name in REJECTION_CODES.items())
)
def reject(where: Where, ref: Ref, code: str, **decided: Any) -> None:
    """Hide it from query and retrieve until it is restored."""
    _decide(where, REJECT, ref, {"code": code}, **decided)


@study.command()
@_deciding
def restore(where: Where, ref: Ref, **decided: Any) -> None:
    """End a rejection of the same study, series or instance."""
    _decide(where, RESTORE, ref, {}, **decided)


@study.command()
@_deciding
def hold(where: Where, ref: Ref, **decided: Any) -> None:
    """Put the study under a legal hold: nobody deletes it."""
    _decide(where, HOLD, ref, {}, **decided)


@study.command()
@_deciding
def release(where: Where, ref: Ref, **decided: Any) -> None:
    """End a legal hold."""
    _decide(where, RELEASE, ref, {}, **decided)


@study.command()
@_deciding
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(SENSITIVE_KINDS),
    help="Sensitive kind of data; may be given several times, none ends it.",
)
def classify(where: Where, ref: Ref, kinds: tuple[str, ...], **decided: Any) -> None:
    """Say that the study is sensitive: it names nobody to who may not see such data."""
    _decide(where, CLASSIFY, ref, {"kinds": sorted({*kinds})}, **decided)


@study.command()
@_deciding
@click.option("--version", nargs=2, type=int, help="As `study show` prints it; without: the first.")
def choose(where: Where, ref: Ref, version: tuple[int, int] | None, **decided: Any) -> None:
    """Show another version of an instance that came more than once."""
    _decide(where, CHOOSE, ref, {"version": list(version) if version else None}, **decided)


@study.command()
@_deciding
def delete(where: Where, ref: Ref, **decided: Any) -> None:
    """Delete it: its bytes go when their time has passed."""
    _decide(where, DELETE, ref, {}, **decided)


@study.command()
@click.argument("uid")
@settings_options
def show(where: Where, uid: str) -> None:
    """Say what was decided about the study UID, and what may have to be."""
    ref = StudyRef.parse(uid)

    async def work(settings: Settings, database: Database) -> list[StudyState]:
        return await (await _desk(settings, database)).about(_scope(None), ref)

    for state in with_database(where, work):
        _say(state)


def _merging(command: Callable[..., None]) -> Callable[..., None]:
    @click.argument("patient_id")
    @click.argument("into_id")
    @click.option("--issuer", default="", help="Issuer of the first Patient ID.")
    @click.option("--into-issuer", default="", help="Issuer of the second Patient ID.")
    @click.option("--owner", "owner_id", type=int, help="Only of this institution.")
    @click.option("--reason", required=True, help="Why; kept with the decision.")
    @settings_options
    @functools.wraps(command)
    def with_patients(
        patient_id: str, into_id: str, issuer: str, into_issuer: str, **options: Any
    ) -> None:
        pair = (PatientKey(patient_id, issuer), PatientKey(into_id, into_issuer))
        command(pair=pair, **options)

    return with_patients


@patient.command()
@_merging
def merge(where: Where, pair: tuple[PatientKey, PatientKey], **decided: Any) -> None:
    """Let all studies of PATIENT_ID answer under INTO_ID."""
    _merge(where, pair, undo=False, **decided)


@patient.command()
@_merging
def unmerge(where: Where, pair: tuple[PatientKey, PatientKey], **decided: Any) -> None:
    """End a merge: every study is shown as before."""
    _merge(where, pair, undo=True, **decided)


async def _desk(settings: Settings, database: Database) -> Desk:
    from archive.decisions.service import Desk

    return await Desk.open(settings, database)


def _scope(owner_id: int | None) -> Scope:
    owners = None if owner_id is None else frozenset({owner_id})
    return Scope(owners, Actor("system", _actor()), "command line")


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def _decide(
    where: Where, kind: str, ref: Ref, detail: dict[str, Any], owner_id: int | None, reason: str
) -> None:
    async def work(settings: Settings, database: Database) -> int:
        desk = await _desk(settings, database)
        done = await desk.decide(
            _scope(owner_id), kind, ref, actor=_actor(), reason=reason, detail=detail
        )
        return done.instances

    instances = with_database(where, work)
    click.echo(f"{instances} instances deleted." if kind == DELETE else "Decided.")


def _merge(
    where: Where,
    pair: tuple[PatientKey, PatientKey],
    *,
    undo: bool,
    owner_id: int | None,
    reason: str,
) -> None:
    async def work(settings: Settings, database: Database) -> None:
        desk = await _desk(settings, database)
        await desk.merge(_scope(owner_id), *pair, actor=_actor(), reason=reason, undo=undo)

    with_database(where, work)
    click.echo("Decided.")


def _say(state: StudyState) -> None:
    there = "" if state.present else ", deleted"
    click.echo(f"institution {state.owner_id}{there}")
    if state.held is not None:
        click.echo(f"  under a legal hold: {state.held.reason}")
    if state.own_patient_id:
        click.echo(f"  names the patient {state.own_patient_id} itself")
    for place, made in sorted(state.rejected.items()):
        click.echo(f"  rejected ({made.detail['code']}){_of(place)}: {made.reason}")
    for place, attributes in sorted(state.corrections.items()):
        click.echo(f"  corrected{_of(place)}: {', '.join(sorted(attributes))}")
    for one in state.versions:
        shown = ", shown" if one.chosen else ""
        place = (one.series_instance_uid, one.sop_instance_uid)
        click.echo(
            f"  version {one.received_ms} {one.byte_length}{_of(place)}:"
            f" {one.relation or 'not compared yet'}, from {one.source or 'unknown'}{shown}"
        )
    for flag in state.contradictions:
        place = (flag.series_instance_uid, flag.sop_instance_uid)
        click.echo(f"  {flag.kind}{_of(place)}: {flag.stored} and {flag.received}")
    for made in state.decisions:
        click.echo(f"  {_line(made)}")


def _line(made: Decision) -> str:
    at = datetime.fromtimestamp(made.decided_ms / 1000, UTC)
    place = _of((made.series_instance_uid, made.sop_instance_uid))
    return f"{at:%Y-%m-%d %H:%M:%S}Z {made.actor} {made.kind}{place}: {made.reason}"


def _of(place: tuple[str, str]) -> str:
    series, instance = place
    if instance:
        return f" instance {instance} of series {series}"
    return f" series {series}" if series else ""
