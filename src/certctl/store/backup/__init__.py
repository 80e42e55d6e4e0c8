"""Backup and restore of everything a server cannot make anew: its rows and its keys."""

from certctl.store.backup.archive import Manifest
from certctl.store.backup.database import backup, restore, verify

__all__ = ["Manifest", "backup", "restore", "verify"]
