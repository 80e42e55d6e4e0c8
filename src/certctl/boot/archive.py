"""`certctl backup`, `restore` and `verify-audit`: beside a running server, or in its place."""

from __future__ import annotations

import sys
from pathlib import Path

from certctl.boot import handover, keys
from certctl.boot.platform import bring_up_to_date, build, database, running_or_started
from certctl.services import trail
from certctl.settings import Settings
from certctl.store import backup as archives


async def backup(settings: Settings, file: Path) -> None:
    """Save the database and the files that open it."""
    names = (keys.FILE, handover.ADMIN_KEY, handover.ANCHOR, handover.CLIENT)
    files = [path for name in names if (path := settings.data_dir / name).exists()]
    async with running_or_started(settings) as conninfo:
        await archives.backup(conninfo, file, key_files=files)
    print(f"saved to {file}")
    if settings.config_encryption_key.get_secret_value():
        print(
            "the archive does not hold CERTCTL_CONFIG_ENCRYPTION_KEY: keep that passphrase too",
            file=sys.stderr,
        )


async def restore(settings: Settings, file: Path, *, force: bool) -> None:
    """Bring a backup back into an empty database, or with `force` into any."""
    keys.prepare_data_dir(settings.data_dir)
    async with database(settings, may_start=True) as conninfo:
        owner = settings.owner_url
        await archives.restore(owner or conninfo, file, data_dir=settings.data_dir, force=force)
        await bring_up_to_date(conninfo, owner)
    print(f"restored from {file}; start `certctl serve`")


async def verify_audit(settings: Settings) -> list[str]:
    """What does not fit in the audit trail, in words."""
    async with running_or_started(settings) as conninfo, build(settings, conninfo) as built:
        return await trail.verify(built.platform)
