"""Import: certificates that were issued elsewhere come under management, or are merely watched.

Each certificate is a transaction of its own and may be sent again: what is known stays as it is,
and a newer one of the same name becomes the live version.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from certctl.domain.access import Actor, Permission
from certctl.domain.errors import CertctlError, Conflict, Invalid, Unavailable
from certctl.pki.bundle import holds_key
from certctl.pki.leaf import Leaf, read_leaf
from certctl.services.adopt import Adopted, Wanted, adopt
from certctl.services.platform import Platform
from certctl.store import certificates, rows
from certctl.store.db import Session

DEFAULT_PROFILE: Final = "prof-default"
LONGEST_NAME: Final = 255
REFERENCES: Final = {
    "owner_id": rows.OWNERS,
    "team_id": rows.TEAMS,
    "issuer_id": rows.ISSUERS,
    "renewal_policy_id": rows.RENEWAL_POLICIES,
    "certificate_profile_id": rows.PROFILES,
}


@dataclass(frozen=True)
class Item:
    """A certificate as it was sent: PEM, and perhaps a name of its own and the tool it is from."""

    pem: str
    name: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Plan:
    """How a whole import is to be done; `name_template` may hold `{cn}`, and a dry run leaves
    nothing behind."""

    terms: Mapping[str, Any]
    watched: bool
    name_template: str
    dry_run: bool


class _Undone(Exception):
    """Ends the transaction of a dry run, and carries what it would have brought about."""

    def __init__(self, adopted: Adopted) -> None:
        super().__init__()
        self.adopted = adopted


async def run(on: Platform, actor: Actor, *, plan: Plan, items: Sequence[Item]) -> dict[str, Any]:
    """What came of each certificate, with totals; one that cannot be taken keeps no other out.

    Raises:
        Invalid: for a private key among the certificates, or naming the field that is wrong for
            all. Nothing has been imported then.
    """
    actor.everywhere(Permission.CERT_ISSUE)
    for index, item in enumerate(items):
        if holds_key(item.pem):
            field = f"certificates.{index}.pem"
            raise Invalid(f"{field}: holds a private key; send certificates only", field=field)
    _check_template(plan.name_template)
    async with on.db.read() as session:
        terms = await _checked_terms(session, actor, plan)
    leaves = await asyncio.to_thread(_read, items)
    told = []
    for index, (item, leaf) in enumerate(zip(items, leaves, strict=True)):
        told.append({"index": index, **await _one(on, actor, plan, terms, item=item, leaf=leaf)})
    counts = Counter(row["outcome"] for row in told)
    totals = {
        f"total_{outcome}": counts[outcome]
        for outcome in ("imported", "updated", "unchanged", "failed")
    }
    return {"total": len(told), **totals, "dry_run": plan.dry_run, "data": told}


def _read(items: Sequence[Item]) -> list[Leaf | Invalid]:
    return [_leaf_or_refusal(item.pem) for item in items]


def _leaf_or_refusal(text: str) -> Leaf | Invalid:
    try:
        return read_leaf(text)
    except Invalid as refusal:
        return refusal


def _check_template(template: str) -> None:
    if "{" in (rest := template.replace("{cn}", "")) or "}" in rest:
        raise Invalid("name_template: may hold {cn} and no other braces", field="name_template")


async def _checked_terms(session: Session, actor: Actor, plan: Plan) -> dict[str, Any]:
    """The terms with the profile that follows from them.

    Raises:
        Invalid: naming a field that is missing or names nothing.
    """
    terms = dict(plan.terms)
    policy_id = terms["renewal_policy_id"]
    if policy_id is None and not plan.watched:
        raise Invalid(
            "renewal_policy_id: give one, unless the certificates are merely watched",
            field="renewal_policy_id",
        )
    bound = await certificates.profile_of_policy(session, policy_id) if policy_id else None
    chosen = terms["certificate_profile_id"]
    if chosen and bound and chosen != bound:
        raise Invalid(
            f"renewal_policy_id: the policy is for certificates of profile {bound} only",
            field="renewal_policy_id",
        )
    terms["certificate_profile_id"] = chosen or bound or DEFAULT_PROFILE
    given = {field: table for field, table in REFERENCES.items() if terms[field] is not None}
    within = actor.scope(Permission.CERT_ISSUE)
    for field in await rows.dangling(session, given, terms, within=within):
        noun = given[field].noun
        raise Invalid(f"{field}: {noun} {terms[field]} does not exist", field=field)
    return terms


async def _one(
    on: Platform,
    actor: Actor,
    plan: Plan,
    terms: Mapping[str, Any],
    *,
    item: Item,
    leaf: Leaf | Invalid,
) -> dict[str, Any]:
    if isinstance(leaf, Invalid):
        return _failed(item.name, leaf)
    name = item.name or plan.name_template.replace("{cn}", leaf.common_name)
    wanted = Wanted(leaf, name, item.source or "pem", plan.watched, terms)
    try:
        if not 1 <= len(name) <= LONGEST_NAME:
            raise Invalid(f"its name would not have 1 to {LONGEST_NAME} characters", field="name")
        done = await _adopted(on, actor, wanted, dry_run=plan.dry_run)
    except Unavailable:
        raise
    except CertctlError as refusal:
        return _failed(name, refusal)
    is_new = done.outcome == "imported"
    return {
        "name": done.name,
        "certificate_id": None if plan.dry_run and is_new else done.certificate_id,
        "outcome": done.outcome,
        "error": None,
    }


async def _adopted(on: Platform, actor: Actor, wanted: Wanted, *, dry_run: bool) -> Adopted:
    """Adopt; once more when another import of the same came first meanwhile."""
    try:
        return await _attempt(on, actor, wanted, dry_run=dry_run)
    except Conflict:
        return await _attempt(on, actor, wanted, dry_run=dry_run)


async def _attempt(on: Platform, actor: Actor, wanted: Wanted, *, dry_run: bool) -> Adopted:
    try:
        async with on.db.transaction() as tx:
            adopted = await adopt(tx, actor, wanted, block_from=on.terms.policy_block_severity)
            if dry_run:
                raise _Undone(adopted)
            return adopted
    except _Undone as undone:
        return undone.adopted


def _failed(name: str | None, refusal: CertctlError) -> dict[str, Any]:
    return {
        "name": name,
        "certificate_id": None,
        "outcome": "failed",
        "error": refusal.message,
    }
