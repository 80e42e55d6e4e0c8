"""Public keys that are not certified."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import blocked as service
from certctl.web.api.common import Created, In, NameText, Out, Page, Paged
from certctl.web.gate import Call, Resource

blocked_keys = Resource("/blocked-keys", tag="certificates")
Spki = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the SubjectPublicKeyInfo in DER, lower-case hex",
    ),
]


class BlockedKey(Out):
    """One that is `compromised` stays blocked."""

    id: str
    spki_sha256: str
    reason: str
    compromised: bool
    blocked_by: str
    created_at: Created


class NewBlockedKey(In):
    spki_sha256: Spki
    reason: NameText


@blocked_keys.get(needs=Permission.CERT_READ, answer=Page[BlockedKey], errors=())
async def list_blocked_keys(call: Call, request: Paged, spki_sha256: Spki | None = None) -> Any:
    """The keys that no certificate is issued for, newest first."""
    return await service.page(call.on, call.actor, request, spki_sha256=spki_sha256)


@blocked_keys.get("/{id}", needs=Permission.CERT_READ, answer=BlockedKey)
async def get_blocked_key(call: Call, id: str) -> Any:
    """One of them."""
    return await service.get(call.on, call.actor, id)


@blocked_keys.post(needs=Permission.CERT_REVOKE, answer=BlockedKey)
async def block_key(call: Call, body: NewBlockedKey) -> Any:
    """Issue nothing more for a key. Certificates that it has stay as they are."""
    return await service.block(
        call.on, call.actor, spki_sha256=body.spki_sha256, reason=body.reason
    )


@blocked_keys.delete("/{id}", needs=Permission.CERT_REVOKE)
async def release_key(call: Call, id: str) -> None:
    """Let a key be certified again, unless it is compromised."""
    await service.release(call.on, call.actor, id)
