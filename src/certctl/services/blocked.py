"""Public keys that are never certified: compromised ones, and those that operators name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.ids import new_id
from certctl.domain.listing import PageRequest
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import blocked_keys
from certctl.store.db import Row, Session, Tx


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, spki_sha256: str | None
) -> dict[str, Any]:
    actor.everywhere(Permission.CERT_READ)
    async with on.db.read() as session:
        return await blocked_keys.page(session, request, spki_sha256=spki_sha256)


async def get(on: Platform, actor: Actor, key_id: str) -> Row:
    actor.everywhere(Permission.CERT_READ)
    async with on.db.read() as session:
        return await blocked_keys.get(session, key_id)


async def block(on: Platform, actor: Actor, *, spki_sha256: str, reason: str) -> Row:
    """Certify a key no more, under no profile and by no issuer. What was issued for it stays.

    Raises:
        Conflict: for one that is blocked already.
    """
    actor.everywhere(Permission.CERT_REVOKE)
    async with on.db.transaction() as tx:
        if await blocked_keys.find(tx, [spki_sha256]):
            raise Conflict("the key is blocked already", field="spki_sha256")
        row = {
            "id": new_id("bk", tx.now),
            "spki_sha256": spki_sha256,
            "reason": reason,
            "compromised": False,
            "blocked_by": actor.id,
            "created_at": tx.now,
        }
        await blocked_keys.insert(tx, row)
        await _record(tx, actor, "key_blocked", row)
        return row


async def release(on: Platform, actor: Actor, key_id: str) -> None:
    """Let a key be certified again that an operator had named.

    Raises:
        Conflict: for a key that is compromised: that cannot be undone.
    """
    actor.everywhere(Permission.CERT_REVOKE)
    async with on.db.transaction() as tx:
        row = await blocked_keys.lock(tx, key_id)
        if row["compromised"]:
            raise Conflict(f"blocked key {key_id} is compromised and stays blocked")
        await blocked_keys.delete(tx, key_id)
        await _record(tx, actor, "key_released", row)


async def compromised(tx: Tx, actor: Actor, versions: Sequence[Row]) -> None:
    """Block the keys of these versions for good, within the transaction of their revocation, whose
    own record says why."""
    by_key = {each["spki_sha256"]: each["certificate_id"] for each in versions}
    rows = [
        {
            "id": new_id("bk", tx.now),
            "spki_sha256": spki,
            "reason": f"certificate {by_key[spki]} was revoked",
            "blocked_by": actor.id,
        }
        for spki in by_key
    ]
    await blocked_keys.compromised(tx, rows)


async def check(session: Session, spki_sha256: str, *, field: str = "csr_pem") -> None:
    """Raises Invalid naming `field` for a key that is not certified."""
    for error in (await among(session, [spki_sha256], field=field)).values():
        raise error


async def among(
    session: Session, spki_sha256s: Sequence[str], *, field: str = "csr_pem"
) -> dict[str, Invalid]:
    """Of these keys those that are not certified, with the error that says so. It tells no more:
    the reason may name what the caller does not see."""
    found = {}
    for row in await blocked_keys.find(session, spki_sha256s):
        why = "compromised" if row["compromised"] else "blocked"
        words = f"{field}: its key is {why}; make a new key"
        found[row["spki_sha256"]] = Invalid(words, field=field)
    return found


async def _record(tx: Tx, actor: Actor, action: str, row: Row) -> None:
    details = {name: row[name] for name in ("spki_sha256", "reason")}
    on = ("blocked_key", row["id"])
    await audit.record(tx, actor, action, on=on, category=Category.CERT_LIFECYCLE, **details)
