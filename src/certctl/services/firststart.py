"""What an empty database needs before it can serve: CAs, defaults, the first administrator.

Each step may be interrupted and is taken up again; the caller holds the start-up lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from certctl.domain.access import EVERYTHING, system
from certctl.domain.errors import Unsafe
from certctl.pki.sealing import DataKey
from certctl.services import authority, bootstrap, plain
from certctl.services.platform import Platform
from certctl.store import rows, secrets
from certctl.store.db import Database

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


async def open_data_key(db: Database, passphrase: bytes) -> DataKey:
    """The data key of this database, made when nothing is sealed yet.

    Raises:
        Unsafe: when the passphrase does not open it.
    """
    async with db.transaction() as tx:
        await secrets.lock_data_key(tx)
        sealed = await secrets.sealed_data_key(tx)
        if sealed is not None:
            try:
                return DataKey.opened(passphrase, sealed)
            except Unsafe:
                raise Unsafe(
                    "CERTCTL_CONFIG_ENCRYPTION_KEY does not open this database: "
                    "give the passphrase that it was first started with"
                ) from None
        if not await secrets.is_empty(tx):
            raise Unsafe("the database holds sealed rows but no data key; restore a whole backup")
        data_key = DataKey.generate()
        await secrets.put_data_key(tx, data_key.sealed(passphrase))
        return data_key


async def defaults(on: Platform) -> None:
    """The default team, owner, policies, profile and issuer, where their tables are empty of
    them; a deleted default stays deleted once another row exists."""
    actor = system("first-start")
    for kind, values in DEFAULTS:
        async with on.db.read() as session:
            if await rows.any_in(session, kind.table):
                continue
        await plain.create(on, actor, kind, values=values)


async def authorities(on: Platform) -> str:
    """The root and the issuing CA under it; the id of the issuing CA."""
    actor = system("first-start")
    async with on.db.read() as session:
        missing = await rows.missing(session, rows.ISSUERS, [ISSUER_ID], within=EVERYTHING)
    if missing:
        raise Unsafe(f"the issuer {ISSUER_ID} is missing: the server's own certificate needs it")
    root = await authority.create(
        on, actor, issuer_id=ISSUER_ID, parent_id=None, name="certctl root CA", path_length=1
    )
    return await authority.create(
        on, actor, issuer_id=ISSUER_ID, parent_id=root, name="certctl issuing CA", path_length=0
    )


async def first_admin(on: Platform, hand_over: Callable[[str], None]) -> None:
    """The first administrator's key, unless there is one already or the operator has set a
    bootstrap token to make one with."""
    if on.bootstrap_token_hash is None:
        await bootstrap.make_first_admin(on, hand_over)
