"""What a use case may touch, built once by `boot` and complete when it exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certctl.connectors.key_home import KeyHome
from certctl.connectors.notifier import Notifier
from certctl.connectors.reach import Reach
from certctl.pki.keys import Signer
from certctl.pki.sealing import Place, Seals
from certctl.store.db import Database
from certctl.store.queue import Queue
from certctl.store.signals import Signals


@dataclass(frozen=True)
class People:
    """The settings of signing in. `breakglass` opens its routes, which otherwise are none."""

    session_idle: timedelta
    session_absolute: timedelta
    session_same_site: str
    session_bind_ip: bool
    session_bind_user_agent: bool
    breakglass: bool
    breakglass_threshold: int
    breakglass_lock: timedelta
    breakglass_reset: timedelta
    first_admin_groups: tuple[str, ...]
    first_admin_provider_id: str
    logout_token_age: timedelta
    login_binds_ip: bool
    login_binds_user_agent: bool
    user_retention: timedelta


@dataclass(frozen=True)
class Terms:
    """The settings that use cases depend on; `sign_in_settings` are for people to read, by name."""

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
    people: People
    sign_in_settings: Mapping[str, str]


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
    """`signer` opens the private key that is sealed at a place, `key_homes` are the places outside
    the database where keys of CAs may live, by name; `notifiers` are the channels that
    are configured, by name; `reach` is where calls to systems of others may go."""

    db: Database
    queue: Queue
    signals: Signals
    clock: Callable[[], datetime]
    random: Callable[[], float]
    data_key: Seals
    signer: Callable[[Place, bytes], Signer]
    key_homes: Mapping[str, KeyHome]
    notifiers: Mapping[str, Notifier]
    environment_keys: tuple[EnvironmentKey, ...]
    bootstrap_token_hash: bytes | None
    reach: Reach
    terms: Terms
