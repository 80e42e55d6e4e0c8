"""What an empty database needs before it can serve: CAs, defaults, the first administrator.

Each step may be interrupted and is taken up again; the caller holds the start-up lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from certctl.domain.access import EVERYTHING, system
from certctl.domain.errors import Unsafe
from certctl.services import authority, bootstrap, plain
from certctl.services.platform import Platform
from certctl.store import rows

ISSUER_ID: Final = "iss-local"
DEFAULTS: Final = (
    (plain.TEAMS, {"id": "t-default", "name": "Platform", "description": "Made at first start"}),
    (plain.OWNERS, {"id": "o-default", "name": "Platform owner", "team_id": "t-default"}),
    (plain.RENEWAL_POLICIES, {"id": "rp-default", "name": "Default"}),
    (
        plain.PROFILES,
        {
            "id": "prof-default",
            "name": "TLS server",
            "description": "Server certificates of 90 days with an ECDSA or RSA key",
            "allow_single_labels": True,
        },
    ),
    (
        plain.ISSUERS,
        {"id": ISSUER_ID, "name": "Built-in CA", "type": "GenericCA", "config": {}},
    ),
)


async def defaults(on: Platform) -> None:
    """The default team, owner, policies, profile and issuer, where their tables are empty of
    them; a deleted default stays deleted once another row exists."""
    actor = system("first-start")
    for kind, values in DEFAULTS:
        async with on.db.read() as session:
            if await rows.any_in(session, kind.table):
                continue
        await plain.create(on, actor, kind, values=values)


async def authorities(on: Platform) -> None:
    """The root of the built-in CA, and the issuing CA under it."""
    actor = system("first-start")
    async with on.db.read() as session:
        missing = await rows.missing(session, rows.ISSUERS, [ISSUER_ID], within=EVERYTHING)
    if missing:
        raise Unsafe(f"the issuer {ISSUER_ID} is missing: the server's own certificate needs it")
    wish = authority.NewAuthority(ISSUER_ID, None, "certctl root CA", path_length=1)
    root = await authority.create(on, actor, wish)
    wish = authority.NewAuthority(ISSUER_ID, root, "certctl issuing CA", path_length=0)
    await authority.create(on, actor, wish)


async def first_admin(on: Platform, hand_over: Callable[[str], None]) -> None:
    """The first administrator's key, unless there is one already or the operator has set a
    bootstrap token to make one with."""
    if on.bootstrap_token_hash is None:
        await bootstrap.make_first_admin(on, hand_over)
