"""What servers share that read PEM files and are told to load them: deploy, verify, staple."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from certctl.connectors import files, target
from certctl.connectors.command import parse_command, run_checked
from certctl.connectors.files import FilePlan, PlannedFile
from certctl.connectors.served import Endpoint, Patience, parse_endpoint, verify_served
from certctl.connectors.target import Bundle, Deployed, Target
from certctl.domain.errors import Invalid, NotFound, Refused, Unavailable
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


class Proof(target.Config):
    """How to see that the new certificate is served, and what is kept of the old one."""

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


class Reloaded(Target):
    """A server with certificate files, a test command and a reload command."""

    config: Proof
    needs_staple: ClassVar[bool] = False

    @abstractmethod
    def files_of(self, bundle: Bundle) -> tuple[PlannedFile, ...]:
        """What `bundle` becomes on the disk, in the order of the swap; the certificate first."""

    @property
    @abstractmethod
    def commands(self) -> tuple[str | None, str]:
        """The test command, if there is one, and the reload command."""

    @property
    @abstractmethod
    def paths(self) -> tuple[Path, ...]:
        """The files that are written; the first holds the leaf and its chain."""

    @property
    def staple_path(self) -> Path | None:
        return None

    @property
    def journals(self) -> tuple[Path, ...]:
        return self.paths[:1]

    def check(self) -> None:
        """Raises Refused when a folder cannot be written, a program is missing, or the present
        configuration does not pass the test."""
        for path in self.paths:
            folder = path.resolve().parent
            if not os.access(folder, os.W_OK | os.X_OK):
                raise Refused(f"the agent cannot write to {folder}")
        program = parse_command(self.commands[1])[0]
        if shutil.which(program) is None:
            raise Refused(f"reload_command: there is no program {program}")
        self._validate()

    def deploy(self, bundle: Bundle) -> Deployed:
        endpoint = self._endpoint(bundle)
        unchanged = files.deploy(
            FilePlan(
                files=self.files_of(bundle),
                validate=self._validate,
                reload=self.reload,
                verify=partial(self._verify, endpoint, bundle.fingerprint_sha256),
                backup_retention=self.config.backup_retention,
            )
        )
        seen = f"served at {endpoint}" if self.config.post_deploy_verify.enabled else "not verified"
        how = "already in place" if unchanged else "deployed"
        return Deployed(bundle.fingerprint_sha256, unchanged, f"{how}, {seen}")

    def in_service(self) -> str:
        path = self.paths[0]
        try:
            return path.read_text(encoding="ascii").partition("-----BEGIN PRIVATE KEY-----")[0]
        except FileNotFoundError:
            raise NotFound(f"{path} is gone") from None
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"{path} cannot be read: {error}") from error

    def put_staple(self, response: bytes) -> None:
        files.put(self.staple_file(response))
        self.reload()

    @abstractmethod
    def staple_file(self, response: bytes) -> PlannedFile:
        """The file for `staple_path`, with the certificate's mode and owner."""

    def reload(self) -> None:
        run_checked(self.commands[1], "reload_command")

    def _validate(self) -> None:
        command = self.commands[0]
        if command:
            run_checked(command, "validate_command")

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


def full_chain(bundle: Bundle) -> str:
    """The leaf, then its chain, in PEM that ends in a newline."""
    leaf, chain = bundle.leaf_pem.strip(), bundle.chain_pem.strip()
    return f"{leaf}\n{chain}\n" if chain else f"{leaf}\n"
