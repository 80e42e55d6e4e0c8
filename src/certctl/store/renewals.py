"""What a renewal begins from, for many certificates in one statement each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.store.certificates import SHOWN, WITHIN
from certctl.store.db import Row, Session, Tx

# Stays the same for a version, so that a scan an hour later decides as this one did.
JITTER: Final = "('x' || substr(md5(v.id), 1, 8))::bit(32)::bigint / 4294967296.0"
# The agents in service that hold, or are to hold, a key of certificate `c`.
HOLDERS: Final = """SELECT DISTINCT m.certificate_id, t.agent_id
    FROM certificate_target_mappings m
    JOIN deployment_targets t ON t.id = m.target_id AND t.enabled
    JOIN agents a ON a.id = t.agent_id AND a.retired_at IS NULL"""


# Live versions in the widest window of any policy; and those of a life so short that the scan of
# all comes too seldom for them.
ANY_LIFE: Final = """not_after <= now() + (SELECT make_interval(days => max(renewal_window_days))
    FROM renewal_policies WHERE auto_renew)"""
SHORT_LIFE: Final = """not_after <= now() + interval '1 day'
    AND not_after - not_before < interval '1 day'"""


async def candidates(
    session: Session, *, after: str, limit: int, short_lived_only: bool = False
) -> list[str]:
    """Certificates that may be due, by id: in the widest window, asked for by their CA, marked for
    renewal, or failed and to be tried again. Policies that do not renew by themselves have none.
    """
    life = SHORT_LIFE if short_lived_only else ANY_LIFE
    rows = await session.all(
        f"""SELECT c.id FROM managed_certificates c
           JOIN renewal_policies p ON p.id = c.renewal_policy_id AND p.auto_renew
           WHERE c.id > %(after)s COLLATE "C" AND NOT c.watched
             AND c.status IN ('Pending', 'Active', 'Expiring', 'Expired', 'Failed')
             AND (c.retry_at IS NULL OR c.retry_at <= now())
             AND c.id IN (
                 SELECT certificate_id FROM certificate_versions WHERE live AND {life}
                 UNION ALL SELECT certificate_id FROM certificate_versions
                     WHERE live AND suggested_at <= now()
                 UNION ALL SELECT id FROM managed_certificates WHERE renew_for IS NOT NULL
                 UNION ALL SELECT id FROM managed_certificates WHERE retry_at <= now())
           ORDER BY c.id COLLATE "C" LIMIT %(limit)s""",
        after=after,
        limit=limit,
    )
    return [row["id"] for row in rows]


async def holdings(session: Session, certificate_ids: Sequence[str]) -> list[Row]:
    """A row for each agent that is to hold a key of these certificates, with its live version, if
    it has one. Agents outside the policy's group are left out."""
    return await session.all(
        f"""SELECT c.id, c.sans, c.renew_for, h.agent_id, v.not_before, v.not_after,
                  v.sans AS live_sans, v.suggested_start, v.suggested_end, v.suggested_at,
                  v.explanation_url, p.renewal_window_days, {JITTER} AS jitter
           FROM managed_certificates c
           JOIN renewal_policies p ON p.id = c.renewal_policy_id
           JOIN ({HOLDERS} WHERE m.certificate_id = ANY(%(ids)s)) h ON h.certificate_id = c.id
           LEFT JOIN certificate_versions v ON v.certificate_id = c.id AND v.live
               AND v.revoked_at IS NULL AND v.agent_id = h.agent_id
           WHERE c.id = ANY(%(ids)s) AND (p.agent_group_id IS NULL OR EXISTS (
               SELECT FROM agent_group_membership g
               WHERE g.agent_group_id = p.agent_group_id AND g.agent_id = h.agent_id))
           ORDER BY c.id, h.agent_id""",
        ids=list(certificate_ids),
    )


async def lock(tx: Tx, certificate_ids: Sequence[str], *, within: Scope) -> list[Row]:
    """The certificates within the scope, locked in the order of their ids, each with its terms and
    whether it has a live version. Out of scope is not there."""
    return await tx.all(
        f"""SELECT {SHOWN}, c.watched, p.id AS profile_id, p.requires_approval,
                  p.allowed_key_algorithms,
                  r.max_retries, EXISTS (SELECT FROM certificate_versions v
                      WHERE v.certificate_id = c.id AND v.live) AS has_live
           FROM managed_certificates c
           JOIN certificate_profiles p ON p.id = c.certificate_profile_id
           JOIN renewal_policies r ON r.id = c.renewal_policy_id
           WHERE c.id = ANY(%(ids)s) AND {WITHIN} ORDER BY c.id FOR UPDATE OF c""",
        ids=list(certificate_ids),
        **within.sql,
    )


async def holders(session: Session, certificate_ids: Sequence[str]) -> dict[str, list[str]]:
    """The agents that are to hold a key, by certificate."""
    found: dict[str, list[str]] = {}
    for row in await session.all(
        f"{HOLDERS} WHERE m.certificate_id = ANY(%(ids)s) ORDER BY 1, 2", ids=list(certificate_ids)
    ):
        found.setdefault(row["certificate_id"], []).append(row["agent_id"])
    return found


async def open_issuances(session: Session, certificate_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the issuances under way, by certificate."""
    found: dict[str, list[str]] = {}
    for row in await session.all(
        """SELECT certificate_id, id FROM jobs
           WHERE certificate_id = ANY(%(ids)s) AND type IN ('Issuance', 'Renewal')
             AND status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')
           ORDER BY created_at, id""",
        ids=list(certificate_ids),
    ):
        found.setdefault(row["certificate_id"], []).append(row["id"])
    return found


async def mark_begun(tx: Tx, certificate_ids: Sequence[str], *, first: Sequence[str]) -> None:
    """Renewals are under way for these; a first issuance leaves the certificate Pending."""
    await tx.run(
        """UPDATE managed_certificates SET last_error = NULL, renew_for = NULL, retry_at = NULL,
               status = CASE WHEN id = ANY(%(first)s) THEN status ELSE 'RenewalInProgress' END,
               updated_at = now()
           WHERE id = ANY(%(ids)s)""",
        ids=list(certificate_ids),
        first=list(first),
    )


async def mark_failed(tx: Tx, errors: Mapping[str, str], *, retry_at: datetime) -> None:
    """Why a renewal could not begin, and when it is tried again."""
    await tx.many(
        """UPDATE managed_certificates SET last_error = %(error)s, retry_at = %(retry_at)s,
               updated_at = now() WHERE id = %(id)s""",
        [{"id": key, "error": error, "retry_at": retry_at} for key, error in errors.items()],
    )


async def clear_marks(tx: Tx, certificate_ids: Sequence[str]) -> None:
    """Nothing is to be renewed after all."""
    await tx.run(
        """UPDATE managed_certificates SET renew_for = NULL, retry_at = NULL
           WHERE id = ANY(%(ids)s)""",
        ids=list(certificate_ids),
    )


async def unasked(session: Session, issuer_id: str, *, limit: int) -> list[Row]:
    """Live versions of an issuer whose CA is to be asked for the moment of renewal."""
    return await session.all(
        """SELECT v.id, v.certificate_id, v.pem_chain FROM certificate_versions v
           WHERE v.live AND v.revoked_at IS NULL AND v.issuer_id = %(issuer)s
             AND (v.ask_again_at IS NULL OR v.ask_again_at <= now()) AND v.not_after > now()
           ORDER BY v.ask_again_at NULLS FIRST LIMIT %(limit)s""",
        issuer=issuer_id,
        limit=limit,
    )


async def put_suggestion(session: Session, version_id: str, **values: Any) -> None:
    sets = ", ".join(f"{name} = %({name})s" for name in values)
    await session.run(
        f"UPDATE certificate_versions SET {sets} WHERE id = %(id)s", id=version_id, **values
    )


async def settle(session: Session, *, about_now: bool = False) -> int:
    """Bring Active, Expiring and Expired into line with the clock; the number changed. With
    `about_now` only what ends in the hours around now.

    Certificates without a version have no expiry and stay as they are.
    """
    around = "BETWEEN now() - interval '2 hours' AND now() + interval '1 hour'"
    ends = around if about_now else "IS NOT NULL"
    return await session.run(
        f"""UPDATE managed_certificates c SET status = s.status, updated_at = now()
           FROM (SELECT c.id, CASE WHEN c.expires_at <= now() THEN 'Expired'
                    WHEN c.expires_at <= now() + least(
                        make_interval(days => p.renewal_window_days),
                        (SELECT min(v.not_after - v.not_before) / 3 FROM certificate_versions v
                         WHERE v.certificate_id = c.id AND v.live))
                    THEN 'Expiring' ELSE 'Active' END AS status
                 FROM managed_certificates c
                 JOIN renewal_policies p ON p.id = c.renewal_policy_id
                 WHERE c.expires_at {ends} AND c.status IN ('Active', 'Expiring', 'Expired')
                   AND (c.status <> 'Active' OR c.expires_at <= now() + (
                       SELECT make_interval(days => max(renewal_window_days))
                       FROM renewal_policies))
                   AND (c.status <> 'Expired' OR c.expires_at > now())) s
           WHERE s.id = c.id AND c.status IN ('Active', 'Expiring', 'Expired')
             AND s.status <> c.status"""
    )
