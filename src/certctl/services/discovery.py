"""What is known of a provider: fetched, kept for all replicas, and asked for anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from certctl.connectors import openid
from certctl.domain.errors import Refused, Unavailable
from certctl.domain.openid import LoginRefused, Why
from certctl.pki import jws
from certctl.services.platform import Platform
from certctl.store import oidc
from certctl.store.db import Row

ANEW: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Known:
    metadata: Mapping[str, Any]
    jwks: Mapping[str, Any]


async def of(on: Platform, provider: Row) -> Known:
    """What is known of a provider; fetched when that is older than the provider's setting.

    Raises:
        Unavailable, Refused: when it cannot be asked, or must not be used.
    """
    if provider["is_fresh"]:
        return Known(provider["metadata"], provider["jwks"])
    return await fetch(on, provider)


async def fetch(on: Platform, provider: Row) -> Known:
    """Ask the provider now. Its failure is kept for people to read."""
    try:
        known = await ask(on, provider["issuer_url"])
    except (Unavailable, Refused) as error:
        async with on.db.read() as session:
            await oidc.note_failure(session, provider["id"], error.message)
        raise
    async with on.db.read() as session:
        await oidc.put_discovery(session, provider["id"], metadata=known.metadata, jwks=known.jwks)
    return known


async def ask(on: Platform, issuer: str) -> Known:
    """Metadata and keys of an issuer, kept nowhere."""
    async with openid.opened(on.reach, issuer) as asked:
        metadata = await asked.metadata()
        offered = metadata.get("id_token_signing_alg_values_supported")
        if isinstance(offered, list) and not set(map(str, offered)) & set(jws.ALGORITHMS):
            raise Refused("the provider offers none of " + ", ".join(jws.ALGORITHMS))
        return Known(metadata, await asked.keys(metadata))


async def verified(on: Platform, provider: Row, token: str) -> jws.Token:
    """The token under the provider's keys; these are fetched anew once when none fits, since
    providers rotate them.

    Raises:
        LoginRefused: with the category. Unavailable, Refused: as `of`.
    """
    try:
        return jws.verified(token, (await of(on, provider)).jwks)
    except LoginRefused as error:
        if error.why is not Why.UNKNOWN_KEY or not await _may_ask_anew(on, provider):
            raise
    return jws.verified(token, (await fetch(on, provider)).jwks)


async def _may_ask_anew(on: Platform, provider: Row) -> bool:
    async with on.db.read() as session:
        return await oidc.may_ask_anew(session, provider["id"], gap=ANEW)
