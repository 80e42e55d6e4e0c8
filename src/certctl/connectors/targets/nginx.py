"""NGINX, and every server like it: PEM files, a test command, a reload command."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from certctl.connectors import target
from certctl.connectors.command import CommandText, parse_command, run_checked
from certctl.connectors.files import AbsolutePath, FileMode, FilePlan, PlannedFile, deploy
from certctl.connectors.served import Endpoint, Patience, parse_endpoint, verify_served
from certctl.connectors.target import Bundle, Deployed, Target
from certctl.domain.errors import Invalid, Refused
from certctl.domain.names import NameKind

NANOSECONDS_FROM = 1_000_000


def _seconds(value: object) -> object:
    """Existing configurations hold durations in nanoseconds; no pause lasts a million seconds."""
    if isinstance(value, int | float) and value >= NANOSECONDS_FROM:
        return value / 1_000_000_000
    return value


Seconds = Annotated[float, BeforeValidator(_seconds)]


class Verification(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Connect after the reload and compare the leaf")
    endpoint: str = Field(default="", description="host:port to connect to; else `host` and `port`")
    timeout: Seconds = Field(default=10.0, gt=0, le=60, description="Seconds for each attempt")

    @field_validator("endpoint")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value:
            try:
                parse_endpoint(value)
            except Invalid as error:
                raise ValueError(error.message) from error
        return value


class Nginx(Target):
    kind = "NGINX"

    class Config(target.Config):
        cert_path: AbsolutePath = Field(description="Certificate file: the leaf, then its chain")
        key_path: AbsolutePath = Field(description="Private key file, PKCS#8 PEM")
        chain_path: AbsolutePath | None = Field(
            None, description="File for the chain alone, as `ssl_trusted_certificate` wants it"
        )
        validate_command: CommandText = Field(description="Tests the configuration: `nginx -t`")
        reload_command: CommandText = Field(description="Loads it: `nginx -s reload`")
        cert_file_mode: FileMode = Field(None, description='Such as "0644"; unset keeps it')
        cert_file_owner: str = Field("", description="User; empty keeps the present owner")
        cert_file_group: str = Field("", description="Group; empty keeps the present group")
        key_file_mode: FileMode = Field(None, description='Such as "0640"; new files get 0600')
        key_file_owner: str = Field("", description="User; empty keeps the present owner")
        key_file_group: str = Field("", description="Group; empty keeps the present group")
        chain_file_mode: FileMode = Field(None, description='Such as "0644"; unset keeps it')
        chain_file_owner: str = Field("", description="User; empty keeps the present owner")
        chain_file_group: str = Field("", description="Group; empty keeps the present group")
        host: str = Field("127.0.0.1", min_length=1, description="Where the server listens")
        port: int = Field(443, ge=1, le=65535, description="Its TLS port")
        server_name: str = Field(
            "", description="Name to ask for (SNI); empty takes the certificate's first DNS name"
        )
        post_deploy_verify: Verification = Field(
            Verification(), description="How to see that the new certificate is served"
        )
        post_deploy_verify_attempts: int = Field(3, ge=1, le=10, description="Connections tried")
        post_deploy_verify_backoff: Seconds = Field(
            1.0, ge=0, le=60, description="Seconds before the second attempt, then doubled"
        )
        post_deploy_verify_max_backoff: Seconds = Field(
            16.0, ge=0, le=60, description="Longest pause in seconds"
        )
        backup_retention: int = Field(
            3, ge=-1, le=100, description="Backups kept of each file; 0 means 3, -1 none"
        )

    config: Config

    @property
    def journals(self) -> tuple[Path, ...]:
        return (self.config.cert_path,)

    def check(self) -> None:
        """Raises Refused when a folder cannot be written, a program is missing, or the present
        configuration does not pass the test."""
        c = self.config
        for path in filter(None, (c.cert_path, c.key_path, c.chain_path)):
            folder = path.resolve().parent
            if not os.access(folder, os.W_OK | os.X_OK):
                raise Refused(f"the agent cannot write to {folder}")
        program = parse_command(c.reload_command)[0]
        if shutil.which(program) is None:
            raise Refused(f"reload_command: there is no program {program}")
        run_checked(c.validate_command, "validate_command")

    def deploy(self, bundle: Bundle) -> Deployed:
        c = self.config
        endpoint = self._endpoint(bundle)
        unchanged = deploy(
            FilePlan(
                files=self._files(bundle),
                validate=partial(run_checked, c.validate_command, "validate_command"),
                reload=partial(run_checked, c.reload_command, "reload_command"),
                verify=partial(self._verify, endpoint, bundle.fingerprint_sha256),
                backup_retention=c.backup_retention,
            )
        )
        seen = f"served at {endpoint}" if c.post_deploy_verify.enabled else "not verified"
        how = "already in place" if unchanged else "deployed"
        return Deployed(bundle.fingerprint_sha256, unchanged, f"{how}, {seen}")

    def _files(self, bundle: Bundle) -> tuple[PlannedFile, ...]:
        c = self.config
        leaf, chain = bundle.leaf_pem.strip() + "\n", bundle.chain_pem.strip()
        full = f"{leaf}{chain}\n" if chain else leaf
        cert = PlannedFile(
            c.cert_path,
            full.encode(),
            0o644,
            mode=c.cert_file_mode,
            owner=c.cert_file_owner,
            group=c.cert_file_group,
        )
        key = PlannedFile(
            c.key_path,
            bundle.key_pem,
            0o600,
            mode=c.key_file_mode,
            owner=c.key_file_owner,
            group=c.key_file_group,
        )
        if c.chain_path is None or not chain:
            return cert, key
        issuers = PlannedFile(
            c.chain_path,
            f"{chain}\n".encode(),
            0o644,
            mode=c.chain_file_mode,
            owner=c.chain_file_owner,
            group=c.chain_file_group,
        )
        return cert, key, issuers

    def _endpoint(self, bundle: Bundle) -> Endpoint:
        c = self.config
        host, port = c.host, c.port
        if c.post_deploy_verify.endpoint:
            host, port = parse_endpoint(c.post_deploy_verify.endpoint)
        names = [name.value for name in bundle.names if name.kind is NameKind.DNS]
        asked = c.server_name or (names[0].replace("*", "certctl", 1) if names else None)
        return Endpoint(host, port, asked)

    def _verify(self, endpoint: Endpoint, expected: str) -> None:
        c = self.config
        if not c.post_deploy_verify.enabled:
            return
        patience = Patience(
            attempts=c.post_deploy_verify_attempts,
            timeout=c.post_deploy_verify.timeout,
            backoff=c.post_deploy_verify_backoff,
            max_backoff=c.post_deploy_verify_max_backoff,
        )
        verify_served(endpoint, expected, patience=patience)
