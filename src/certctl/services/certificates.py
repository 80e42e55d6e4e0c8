"""Managed certificates: create, read, change, archive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from certctl.domain import certificate, profile
from certctl.domain.access import EVERYTHING, NOTHING, Actor, Permission, Scope
from certctl.domain.certificate import Status
from certctl.domain.errors import Conflict, Invalid, NotAllowed
from certctl.domain.listing import PageRequest
from certctl.domain.names import parse_name, parse_names
from certctl.services import approve, audit, csrs, deploy, policy, renew
from certctl.services import jobs as jobs_service
from certctl.services.plain import check_match, choose_id
from certctl.services.platform import Platform
from certctl.store import authorities, certificates, jobs, renewals, rows, versions
from certctl.store.db import Row, Tx

# A certificate in which one of these differs is another one than was asked for or approved.
ISSUED_FROM: Final = frozenset({"common_name", "sans", "issuer_id", "certificate_profile_id"})
DEFAULT_PROFILE: Final = "prof-default"
REFERENCES: Final = {
    "owner_id": rows.OWNERS,
    "team_id": rows.TEAMS,
    "issuer_id": rows.ISSUERS,
    "renewal_policy_id": rows.RENEWAL_POLICIES,
    "certificate_profile_id": rows.PROFILES,
}


def parse_order(sort: str | None) -> Any:
    """`name`, or `-expiresAt` for the newest first.

    Raises:
        Invalid: listing what can be sorted by.
    """
    text = sort or "createdAt"
    order = certificates.ORDERS.get(text.removeprefix("-"))
    if order is None:
        raise Invalid(f"sort: one of {', '.join(certificates.ORDERS)}", field="sort")
    return type(order)(order.column, order.type, descending=text.startswith("-"))


def parse_fields(fields: str | None) -> tuple[str, ...]:
    names = tuple(filter(None, (part.strip() for part in (fields or "").split(","))))
    unknown = [name for name in names if name not in certificates.FIELDS]
    if unknown:
        raise Invalid(
            f"fields: {unknown[0]!r} is not one of {', '.join(certificates.FIELDS)}",
            field="fields",
        )
    return names


def _as_given(value: Any) -> Any:
    return value


def parse_search(text: str) -> str:
    """A query for all words of the text, each as the beginning of a word of the names.

    Raises:
        Invalid: when no letter or digit is left to search by.
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    if not words:
        raise Invalid("search: give letters or digits of a name", field="search")
    return " & ".join(f"'{word}':*" for word in words)


def parse_tags(pairs: Sequence[str]) -> dict[str, str]:
    """`key=value` each.

    Raises:
        Invalid: for one without an equals sign.
    """
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise Invalid("tag: write key=value", field="tag")
        found[key] = value
    return found


FILTER_VALUES: Final[Mapping[str, Any]] = {"search": parse_search, "tags": parse_tags}


async def page(
    on: Platform,
    actor: Actor,
    request: PageRequest,
    *,
    filters: Mapping[str, Any],
    sort: str | None,
    fields: str | None,
) -> dict[str, Any]:
    """A page of certificates, by number or by cursor."""
    order, chosen = parse_order(sort), parse_fields(fields)
    filters = {name: FILTER_VALUES.get(name, _as_given)(v) for name, v in filters.items()}
    async with on.db.read() as session:
        return await certificates.page(
            session,
            request,
            within=actor.scope(Permission.CERT_READ),
            filters=filters,
            order=order,
            fields=chosen,
        )


async def get(on: Platform, actor: Actor, certificate_id: str) -> Row:
    async with on.db.read() as session:
        return await certificates.get(
            session, certificate_id, within=actor.scope(Permission.CERT_READ)
        )


async def create(
    on: Platform, actor: Actor, *, order: Mapping[str, Any], idempotency_key: str | None = None
) -> Row:
    """Create a certificate and, when a target or a CSR gives it a key holder, queue its issuance.

    Raises:
        Invalid: naming the field. Conflict: the id or the name is taken.
    """
    within = actor.scope(Permission.CERT_ISSUE)
    values = {name: value for name, value in order.items() if value is not None}
    target_ids = list(dict.fromkeys(values.pop("target_ids", [])))
    csr_pem = values.pop("csr_pem", None)
    chosen = values.pop("id", None)
    values |= _names(values["common_name"], values.get("sans", []))
    async with on.db.transaction() as tx:
        certificate_id = choose_id("mc", actor, tx.now, chosen=chosen, key=idempotency_key)
        await _check_references(tx, values)
        values["certificate_profile_id"] = await _profile_for(tx, values)
        _check_inside(within, values)
        await _check_targets(tx, actor, target_ids)
        if not await certificates.insert(tx, {"id": certificate_id, **values}):
            if chosen is not None or idempotency_key is None:
                raise Conflict(f"id {certificate_id} is already in use", field="id")
            return await certificates.get(tx, certificate_id, within=within)
        await certificates.bind_targets(tx, certificate_id, target_ids)
        await _check_profile(tx, certificate_id, values["sans"])
        await audit.record(
            tx,
            actor,
            "certificate_created",
            on=("certificate", certificate_id),
            after={**values, "target_ids": target_ids},
        )
        await policy.enforce(on, tx, [certificate_id])
        holders = await _holders(tx, certificate_id)
        if csr_pem is not None or holders or on.terms.server_makes_keys:
            wanted = renew.Wanted(certificate_id, "created", csr_pem=csr_pem)
            await renew.begin_one(on, tx, actor, wanted=wanted)
        return await certificates.get(tx, certificate_id, within=within)


async def _holders(tx: Tx, certificate_id: str) -> list[str]:
    """The agents that are to hold a key."""
    return (await renewals.holders(tx, [certificate_id])).get(certificate_id, [])


async def update(
    on: Platform,
    actor: Actor,
    certificate_id: str,
    *,
    changes: Mapping[str, Any],
    if_match: str | None = None,
) -> Row:
    """Change the given fields. New names take effect with the renewal that they cause.

    Raises:
        Stale, Invalid, Conflict: and nothing is changed.
    """
    within = actor.scope(Permission.CERT_EDIT)
    async with on.db.transaction() as tx:
        row = await certificates.lock(tx, certificate_id, within=within)
        check_match(if_match, row["updated_at"])
        if row["status"] in {"Archived", "Revoked"}:
            raise Conflict(f"certificate {certificate_id} is {row['status']}", field="status")
        new = dict(changes)
        target_ids = new.pop("target_ids", None)
        if "common_name" in new or "sans" in new:
            names = _names(
                new.get("common_name") or row["common_name"],
                new["sans"] or [] if "sans" in new else row["sans"],
            )
            new |= names
        await _check_references(tx, new)
        if new.keys() & {"certificate_profile_id", "renewal_policy_id"}:
            new["certificate_profile_id"] = await _profile_for(tx, {**row, **new})
        _check_inside(within, {**row, **new})
        if new:
            await certificates.update(tx, certificate_id, **new)
        if new.keys() & ISSUED_FROM:
            await authorities.close_intents_of(tx, [certificate_id], note="certificate changed")
        if "sans" in new or "certificate_profile_id" in new:
            await _check_profile(tx, certificate_id, new.get("sans") or row["sans"])
        if target_ids is not None:
            target_ids = list(dict.fromkeys(target_ids))
            await _check_targets(tx, actor, target_ids)
            await certificates.bind_targets(tx, certificate_id, target_ids)
            new["target_ids"] = target_ids
        await policy.enforce(on, tx, [certificate_id])
        await _follow_up(on, tx, actor, row, new)
        before = {name: row[name] for name in new}
        await audit.record(
            tx,
            actor,
            "certificate_updated",
            on=("certificate", certificate_id),
            before=before,
            after=new,
        )
        return await certificates.get(tx, certificate_id, within=within)


async def _follow_up(
    on: Platform, tx: Tx, actor: Actor, before: Row, new: Mapping[str, Any]
) -> None:
    """What a change brings about: what was asked or approved for another certificate ends, new
    names and new holders begin a renewal, and a new target of an old holder is deployed to."""
    certificate_id, why = before["id"], f"changed by {actor.id}"
    if any(name in new and new[name] != before[name] for name in ISSUED_FROM):
        await approve.withdraw(tx, actor, certificate_id, why="the certificate was changed")
        await jobs_service.settle_certificate(tx, certificate_id, error=None)
    holders = set(await _holders(tx, certificate_id))
    live = {v["agent_id"]: v for v in await versions.live(tx, certificate_id)}
    names = set(new.get("sans", before["sans"]))
    stale = {h for h in holders if h not in live or set(live[h]["sans"]) != names}
    for holder in sorted(holders - stale):
        for target_id in sorted(set(new.get("target_ids", ())) - set(before["target_ids"])):
            await deploy.plan(tx, [live[holder]], only_target=target_id, requested_by=actor.id)
    if stale and not before["watched"] and new.keys() & {"sans", "common_name", "target_ids"}:
        wanted = renew.Wanted(certificate_id, why, only=frozenset(stale))
        begun = await renew.begin(on, tx, actor, wanted=[wanted])
        if certificate_id not in begun.jobs:
            await certificates.update(tx, certificate_id, renew_for=why)


async def archive(on: Platform, actor: Actor, certificate_id: str) -> None:
    """Take a certificate out of management; its record stays. Archiving twice is no error."""
    async with on.db.transaction() as tx:
        row = await certificates.lock(
            tx, certificate_id, within=actor.scope(Permission.CERT_DELETE)
        )
        present = Status(row["status"])
        if present is Status.ARCHIVED:
            return
        certificate.move(certificate_id, present, Status.ARCHIVED)
        await certificates.update(tx, certificate_id, status="Archived")
        await jobs.cancel_open(tx, [certificate_id], why="the certificate was archived")
        await authorities.close_intents_of(tx, [certificate_id], note="certificate archived")
        await audit.record(
            tx, actor, "certificate_archived", on=("certificate", certificate_id), name=row["name"]
        )


async def version_page(
    on: Platform, actor: Actor, certificate_id: str, request: PageRequest
) -> dict[str, Any]:
    within = actor.scope(Permission.CERT_READ)
    async with on.db.read() as session:
        await certificates.get(session, certificate_id, within=within)
        return await versions.page(session, certificate_id, request)


async def deployments(on: Platform, actor: Actor, certificate_id: str) -> list[Row]:
    """The bound targets, each with the outcome of its newest deployment."""
    within = actor.scope(Permission.CERT_READ)
    async with on.db.read() as session:
        await certificates.get(session, certificate_id, within=within)
        return await certificates.targets(session, certificate_id)


def _names(common_name: str, sans: Sequence[str]) -> dict[str, Any]:
    """Canonical names; the common name is always among the SANs (RFC 9525 §2)."""
    first = parse_name(common_name, field="common_name")
    names = dict.fromkeys((first, *parse_names(sans)))
    return {"common_name": first.value, "sans": [name.value for name in names]}


def _check_inside(within: Scope, values: Mapping[str, Any]) -> None:
    """Raises NotAllowed for an issuer and a profile that are both beyond what the caller may."""
    issuer_id, profile_id = values["issuer_id"], values["certificate_profile_id"]
    if not within.has(issuer_id=issuer_id, profile_id=profile_id):
        raise NotAllowed(f"neither for issuer {issuer_id} nor for profile {profile_id} may you")


async def _check_references(tx: Tx, values: Mapping[str, Any]) -> None:
    """A clear answer for each field that names something which does not exist."""
    given = {field: table for field, table in REFERENCES.items() if field in values}
    for field in given:
        if values[field] is None:
            raise Invalid(f"{field} cannot be empty", field=field)
    for field in await rows.dangling(tx, given, values, within=EVERYTHING):
        noun = given[field].noun
        raise Invalid(f"{field}: {noun} {values[field]} does not exist", field=field)


async def _check_targets(tx: Tx, actor: Actor, target_ids: Sequence[str]) -> None:
    """A target that the caller cannot see is told as one that is not."""
    within = actor.permissions.get(Permission.TARGET_READ, NOTHING)
    for target_id in await rows.missing(tx, rows.TARGETS, target_ids, within=within):
        raise Invalid(f"target_ids: target {target_id} does not exist", field="target_ids")


async def _profile_for(tx: Tx, values: Mapping[str, Any]) -> str:
    """The profile that was given, or that of the policy, or the default; a policy that is for one
    profile takes no certificate of another."""
    chosen = values.get("certificate_profile_id")
    bound = await certificates.profile_of_policy(tx, values["renewal_policy_id"])
    if chosen and bound and chosen != bound:
        raise Invalid(
            f"renewal_policy_id: the policy is for certificates of profile {bound} only",
            field="renewal_policy_id",
        )
    return str(chosen or bound or DEFAULT_PROFILE)


async def _check_profile(tx: Tx, certificate_id: str, sans: Sequence[str]) -> None:
    rules = csrs.profile_of(await certificates.terms(tx, certificate_id))
    broken = profile.name_violations(rules, parse_names(sans))
    if broken:
        raise Invalid("sans: " + "; ".join(broken), field="sans")
