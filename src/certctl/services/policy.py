"""Rules over the inventory: judged where certificates change and on a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from certctl.domain.access import Actor, Permission, Scope, system
from certctl.domain.errors import CertctlError, Invalid
from certctl.domain.listing import PageRequest
from certctl.domain.notification import Kind
from certctl.domain.notification import Severity as Urgency
from certctl.domain.policy import OF_THE_VERSION, RuleType, check_blocking, check_config
from certctl.services import audit, notify, plain
from certctl.services.platform import Platform
from certctl.store import certificates, policies, rows
from certctl.store.db import Row, Session, Tx

ACTOR: Final = system("policy")
BATCH: Final = 2_000  # whose certificates nobody else changes meanwhile
URGENCY: Final = {
    "Warning": Urgency.WARNING,
    "Error": Urgency.WARNING,
    "Critical": Urgency.CRITICAL,
}


async def create_rule(
    on: Platform, actor: Actor, *, values: Mapping[str, Any], idempotency_key: str | None = None
) -> Row:
    """A new rule, as `plain.create` makes it.

    Raises:
        Invalid: naming the setting that does not fit, or names no issuer, or `blocking`.
    """
    within = actor.scope(Permission.POLICY_EDIT)
    async with on.db.read() as session:
        await _check(session, RuleType(values["type"]), values, within=within)
    return await plain.create(
        on, actor, plain.POLICY_RULES, values=values, idempotency_key=idempotency_key
    )


async def change_rule(
    on: Platform,
    actor: Actor,
    rule_id: str,
    *,
    changes: Mapping[str, Any],
    if_match: str | None = None,
) -> Row:
    """As `plain.update`, with what `create_rule` checks."""
    within = actor.scope(Permission.POLICY_EDIT)
    async with on.db.read() as session:
        row = await rows.get(session, rows.POLICY_RULES, rule_id, within=within)
        if changes.get("type") in (None, row["type"]):
            await _check(session, RuleType(row["type"]), changes, within=within)
    return await plain.update(
        on, actor, plain.POLICY_RULES, rule_id, changes=changes, if_match=if_match
    )


async def _check(
    session: Session, kind: RuleType, values: Mapping[str, Any], *, within: Scope
) -> None:
    if values.get("blocking"):
        check_blocking(kind)
    if kind is RuleType.ALLOWED_ISSUERS and "config" in values:
        check_config(kind, values["config"])
        field, listed = "config.allowed_issuer_ids", values["config"]["allowed_issuer_ids"]
        for unknown in await rows.missing(session, rows.ISSUERS, listed, within=within):
            raise Invalid(f"{field}: issuer {unknown} does not exist", field=field)


async def enforce(on: Platform, tx: Tx, certificate_ids: Sequence[str]) -> None:
    """Judge certificates that have changed, in the change's own transaction.

    Raises:
        Invalid: when one breaks a rule that blocks; nothing is changed then.
    """
    for error in (await blocking(on, tx, certificate_ids)).values():
        raise error


async def blocking(on: Platform, tx: Tx, certificate_ids: Sequence[str]) -> dict[str, CertctlError]:
    """As `enforce`, told for each certificate. Rules about the version block nobody from a change
    or a renewal, which may be what mends it."""
    return await _judge(tx, certificate_ids, least=on.terms.policy_block_severity)


async def on_import(tx: Tx, certificate_id: str, *, block_from: str, watched: bool) -> None:
    """Judge a certificate that was issued elsewhere, as `enforce` does; rules block by themselves
    or from the severity `block_from` on.

    Raises:
        Invalid: when it breaks a rule that blocks, unless it is merely watched.
    """
    for error in (await _judge(tx, [certificate_id], least=block_from)).values():
        if not watched:
            raise error


async def before_issuance(
    on: Platform, certificate_ids: Sequence[str], lifetime: timedelta
) -> dict[str, CertctlError]:
    """Judge what is about to be issued, with its lifetime; which are refused, and why. What breaks
    a rule is kept, and so is told once, until an issuance keeps the rule."""
    async with on.db.transaction() as tx:
        # Whatever else judges a certificate has ended, or waits.
        await certificates.lock_all(tx, certificate_ids)
        return await _judge(
            tx, certificate_ids, least=on.terms.policy_block_severity, lifetime=lifetime
        )


async def _judge(
    tx: Tx, certificate_ids: Sequence[str], *, least: str, lifetime: timedelta | None = None
) -> dict[str, CertctlError]:
    await _evaluate(tx, certificate_ids, lifetime=lifetime)
    found = await policies.standing_in_the_way(
        tx,
        certificate_ids,
        least=least,
        but=[str(each) for each in OF_THE_VERSION],
        issuing=lifetime is not None,
    )
    return {
        row["certificate_id"]: Invalid(f"policy {row['name']}: {row['message']}", field="policy")
        for row in found
    }


async def _evaluate(
    tx: Tx,
    certificate_ids: Sequence[str],
    *,
    rule_id: str | None = None,
    lifetime: timedelta | None = None,
) -> int:
    """How many violations are new; those are told, and the trail has them and what is over."""
    moved = await policies.evaluate(
        tx, certificate_ids=certificate_ids, rule_id=rule_id, lifetime=lifetime
    )
    new = [row for row in moved if row["resolved_at"] is None]
    await audit.record_many(tx, ACTOR, [_event(row) for row in moved])
    await notify.tell_many(tx, [_news(row) for row in new])
    return len(new)


def _event(row: Row) -> audit.Event:
    verb = "opened" if row["resolved_at"] is None else "resolved"
    details = {name: row[name] for name in ("rule_id", "rule", "severity", "message")}
    on = ("certificate", row["certificate_id"])
    return audit.Event(f"policy_violation_{verb}", on, {"violation_id": row["id"], **details})


def _news(row: Row) -> notify.News:
    return notify.News(
        Kind.POLICY_VIOLATION,
        row["certificate_id"],
        row["id"],
        URGENCY[row["severity"]],
        f"policy {row['rule']}: {row['message']}",
    )


async def evaluate_all(on: Platform, *, rule_id: str | None = None) -> int:
    """Judge the whole inventory by every rule, or by one; how many violations are new."""
    found, last = 0, ""
    while True:
        async with on.db.transaction() as tx:
            ids = await policies.batch(tx, after=last, limit=BATCH)
            found += await _evaluate(tx, ids, rule_id=rule_id)
        if len(ids) < BATCH:
            return found
        last = ids[-1]


async def violations(
    on: Platform,
    actor: Actor,
    rule_id: str,
    request: PageRequest,
    *,
    resolved: bool,
    severity: str | None = None,
) -> dict[str, Any]:
    """Where a rule is broken, or was."""
    within = actor.scope(Permission.POLICY_READ)
    filters = _given(rule_id=rule_id, severity=severity)
    async with on.db.read() as session:
        await rows.get(session, rows.POLICY_RULES, rule_id, within=within)
        return await policies.violations(
            session, request, within=within, filters=filters, resolved=resolved
        )


async def violations_of(
    on: Platform,
    actor: Actor,
    certificate_id: str,
    request: PageRequest,
    *,
    resolved: bool,
    rule_id: str | None = None,
    severity: str | None = None,
) -> dict[str, Any]:
    """The rules that a certificate breaks, or broke.

    Raises:
        NotFound: for a certificate that is absent or out of scope.
    """
    within = actor.scope(Permission.CERT_READ)
    filters = _given(certificate_id=certificate_id, rule_id=rule_id, severity=severity)
    async with on.db.read() as session:
        await certificates.get(session, certificate_id, within=within)
        return await policies.violations(
            session, request, within=within, filters=filters, resolved=resolved
        )


def _given(**values: str | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
