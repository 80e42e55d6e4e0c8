"""What a use case may touch, built once by `boot` and complete when it exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certctl.connectors.notifier import Notifier
from certctl.pki.keys import Signer
from certctl.pki.sealing import Place, Seals
from certctl.store.db import Database
from certctl.store.queue import Queue
from certctl.store.signals import Signals


@dataclass(frozen=True)
class Terms:
    """The settings that use cases depend on."""

    public_url: str
    server_names: tuple[str, ...]
    job_lease: timedelta
    job_awaiting_csr_timeout: timedelta
    job_awaiting_approval_timeout: timedelta
    job_agent_offline_ttl: timedelta
    agent_credential_renew_after: timedelta
    job_retention: timedelta
    notification_retention: timedelta
    ari_timeout: timedelta
    renewal_concurrency: int
    policy_block_severity: str
    digest_enabled: bool
    server_makes_keys: bool
    crl_validity: timedelta
    ocsp_validity: timedelta
    responder_validity: timedelta
    responder_grace: timedelta
    server_certificate_validity: timedelta
    audit_checkpoint_interval: timedelta
    audit_checkpoint_dir: Path | None


@dataclass(frozen=True)
class EnvironmentKey:
    """An API key of the settings, already hashed."""

    name: str
    hash: bytes
    admin: bool

    @property
    def baseline(self) -> tuple[str, ...]:
        """The roles that it has besides those that were given to it."""
        return ("r-admin",) if self.admin else ("r-viewer",)


@dataclass(frozen=True)
class Platform:
    """`signer` opens the private key that is sealed at a place; `notifiers` are the channels that
    are configured, by name."""

    db: Database
    queue: Queue
    signals: Signals
    clock: Callable[[], datetime]
    random: Callable[[], float]
    data_key: Seals
    signer: Callable[[Place, bytes], Signer]
    notifiers: Mapping[str, Notifier]
    environment_keys: tuple[EnvironmentKey, ...]
    bootstrap_token_hash: bytes | None
    terms: Terms
