"""Ask outside CAs when they would have their certificates renewed (RFC 9773).

Each issuer has a lane of its own: one that does not answer is left alone until its next turn and
delays nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any, Final

from certctl.connectors import catalog
from certctl.connectors.issuer import Suggested, SuggestsRenewal
from certctl.domain.access import EVERYTHING
from certctl.domain.errors import CertctlError, Refused, Unavailable
from certctl.pki import x509
from certctl.services import authority
from certctl.services.platform import Platform
from certctl.store import renewals, rows
from certctl.store.db import Row

log = logging.getLogger("certctl.renewal")
LANE: Final = 5  # questions to one issuer at once
TURN: Final = 500  # certificates of one issuer in one run
GIVE_UP: Final = 3  # silent answers after which an issuer's lane ends for this run
SOON: Final = timedelta(minutes=1)  # bounds of what a Retry-After may say (RFC 9773 §4.3)
SELDOM: Final = timedelta(days=1)
WITHOUT: Final = timedelta(hours=6)


async def ask(on: Platform) -> int:
    """Ask for every live version whose time has come; how many answers there were."""
    async with on.db.read() as session:
        issuers = await rows.every(session, rows.ISSUERS, within=EVERYTHING)
    places = asyncio.Semaphore(on.terms.renewal_concurrency)
    lanes = (_lane(on, row["id"], places) for row in issuers if _may_suggest(row))
    return sum(await asyncio.gather(*lanes))


def _may_suggest(row: Row) -> bool:
    return bool(row["enabled"] and hasattr(catalog.issuer_class(row["type"]), "suggest"))


async def _lane(on: Platform, issuer_id: str, places: asyncio.Semaphore) -> int:
    try:
        async with on.db.read() as session:
            opened = await authority.open_issuer(on, session, issuer_id)
            issuer = opened.issuer
            if not isinstance(issuer, SuggestsRenewal):
                return 0
            waiting = await renewals.unasked(session, issuer_id, limit=TURN)
    except CertctlError as error:
        log.warning("issuer %s cannot be asked about renewals: %s", issuer_id, error.message)
        return 0
    timeout = _timeout(on, opened.config)
    answered = silent = 0
    for group in range(0, len(waiting), LANE):
        if silent >= GIVE_UP:
            break
        told = await asyncio.gather(
            *(_one(on, issuer, row, timeout, places) for row in waiting[group : group + LANE])
        )
        answered += sum(told)
        silent += told.count(False)
    return answered


def _timeout(on: Platform, config: Any) -> timedelta:
    """The issuer's own, or that of the settings; what is not positive counts as absent."""
    own = getattr(config, "ari_http_timeout_seconds", None)
    return timedelta(seconds=own) if own and own > 0 else on.terms.ari_timeout


async def _one(
    on: Platform, issuer: SuggestsRenewal, row: Row, timeout: timedelta, places: asyncio.Semaphore
) -> bool:
    """Whether the CA answered. Without an answer the policy's window decides, as it does for a CA
    that makes no suggestion."""
    chain = tuple(x509.ders_of_pem(row["pem_chain"]))
    try:
        async with places, asyncio.timeout(timeout.total_seconds()):
            told = await issuer.suggest(chain, timeout=timeout)
    except (Unavailable, Refused, TimeoutError) as error:
        log.warning("no renewal information for version %s: %s", row["id"], error)
        async with on.db.read() as session:
            await renewals.put_suggestion(session, row["id"], ask_again_at=on.clock() + WITHOUT)
        return isinstance(error, Refused)
    async with on.db.read() as session:
        await renewals.put_suggestion(session, row["id"], **_drawn(on, told))
    return True


def _drawn(on: Platform, told: Suggested) -> dict[str, Any]:
    """A moment drawn evenly within the window (RFC 9773 §4.2)."""
    return {
        "suggested_start": told.start,
        "suggested_end": told.end,
        "suggested_at": told.start + (told.end - told.start) * on.random(),
        "explanation_url": told.explanation_url,
        "ask_again_at": on.clock() + min(max(told.ask_again, SOON), SELDOM),
    }
