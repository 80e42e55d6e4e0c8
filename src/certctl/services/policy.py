"""Rules over the inventory: judged where certificates change and on a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from certctl.domain.access import Actor, Permission
from certctl.domain.errors import CertctlError, Invalid
from certctl.domain.listing import PageRequest
from certctl.domain.notification import Kind
from certctl.domain.notification import Severity as Urgency
from certctl.domain.policy import OF_THE_VERSION, RuleType
from certctl.services import notify
from certctl.services.platform import Platform
from certctl.store import policies, rows
from certctl.store.db import Tx

BATCH: Final = 5_000
URGENCY: Final = {
    "Warning": Urgency.WARNING,
    "Error": Urgency.WARNING,
    "Critical": Urgency.CRITICAL,
}


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
    return await _judge(on, tx, certificate_ids, but=OF_THE_VERSION)


async def before_issuance(on: Platform, certificate_id: str, lifetime: timedelta) -> None:
    """Judge what is about to be issued, with its lifetime; what breaks a rule is kept.

    Raises:
        Invalid: when the rule blocks.
    """
    async with on.db.transaction() as tx:
        found = await _judge(
            on, tx, [certificate_id], lifetime=lifetime, but=(RuleType.RENEWAL_LEAD_TIME,)
        )
    for error in found.values():
        raise error


async def _judge(
    on: Platform,
    tx: Tx,
    certificate_ids: Sequence[str],
    *,
    but: Sequence[str],
    lifetime: timedelta | None = None,
) -> dict[str, CertctlError]:
    await _evaluate(tx, certificate_ids, lifetime=lifetime)
    found = await policies.standing_in_the_way(
        tx, certificate_ids, least=on.terms.policy_block_severity, but=[str(each) for each in but]
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
    new = await policies.evaluate(
        tx, certificate_ids=certificate_ids, rule_id=rule_id, lifetime=lifetime
    )
    await notify.tell_many(
        tx,
        [
            notify.News(
                Kind.POLICY_VIOLATION,
                row["certificate_id"],
                row["id"],
                URGENCY[row["severity"]],
                f"policy {row['rule']}: {row['message']}",
            )
            for row in new
        ],
    )
    return len(new)


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
    on: Platform, actor: Actor, rule_id: str, request: PageRequest, *, resolved: bool
) -> dict[str, Any]:
    """Where a rule is broken, or was."""
    within = actor.scope(Permission.POLICY_READ)
    async with on.db.read() as session:
        await rows.get(session, rows.POLICY_RULES, rule_id, within=within)
        return await policies.violations(
            session, rule_id, request, within=within, resolved=resolved
        )
