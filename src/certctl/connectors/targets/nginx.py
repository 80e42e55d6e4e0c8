"""NGINX, and every server like it: PEM files, a test command, a reload command."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from certctl.connectors import target
from certctl.connectors.command import CommandText
from certctl.connectors.files import AbsolutePath, FileMode, PlannedFile
from certctl.connectors.reloaded import Proof, Reloaded, full_chain
from certctl.connectors.target import Bundle


class NginxFiles(target.Config):
    cert_path: AbsolutePath = Field(description="Certificate file: the leaf, then its chain")
    key_path: AbsolutePath = Field(description="Private key file, PKCS#8 PEM")
    chain_path: AbsolutePath | None = Field(
        None, description="File for the chain alone, as `ssl_trusted_certificate` wants it"
    )
    staple_path: AbsolutePath | None = Field(
        None,
        description="File for `ssl_stapling_file`, kept fresh by the agent; without a verified "
        "OCSP response nothing is deployed",
    )
    validate_command: CommandText = Field(description="Tests the configuration: `nginx -t`")
    reload_command: CommandText = Field(description="Loads it: `nginx -s reload`")
    cert_file_mode: FileMode = Field(
        None, description='Such as "0644"; unset keeps it; the staple has it too'
    )
    cert_file_owner: str = Field("", description="User; empty keeps the present owner")
    cert_file_group: str = Field("", description="Group; empty keeps the present group")
    key_file_mode: FileMode = Field(None, description='Such as "0640"; new files get 0600')
    key_file_owner: str = Field("", description="User; empty keeps the present owner")
    key_file_group: str = Field("", description="Group; empty keeps the present group")
    chain_file_mode: FileMode = Field(None, description='Such as "0644"; unset keeps it')
    chain_file_owner: str = Field("", description="User; empty keeps the present owner")
    chain_file_group: str = Field("", description="Group; empty keeps the present group")


class Nginx(Reloaded):
    kind = "NGINX"
    # It does not start without the file, and would hand out one that is for another certificate.
    needs_staple: ClassVar[bool] = True

    class Config(Proof, NginxFiles):
        """The files first, then the proof."""

    config: Config

    @property
    def commands(self) -> tuple[str | None, str]:
        return self.config.validate_command, self.config.reload_command

    @property
    def paths(self) -> tuple[Path, ...]:
        c = self.config
        return tuple(filter(None, (c.cert_path, c.key_path, c.chain_path, c.staple_path)))

    @property
    def staple_path(self) -> Path | None:
        return self.config.staple_path

    def files_of(self, bundle: Bundle) -> tuple[PlannedFile, ...]:
        c = self.config
        key = PlannedFile(
            c.key_path,
            bundle.key_pem,
            0o600,
            mode=c.key_file_mode,
            owner=c.key_file_owner,
            group=c.key_file_group,
        )
        planned = [self._like_certificate(c.cert_path, full_chain(bundle).encode()), key]
        if c.chain_path is not None and bundle.chain_pem.strip():
            issuers = PlannedFile(
                c.chain_path,
                f"{bundle.chain_pem.strip()}\n".encode(),
                0o644,
                mode=c.chain_file_mode,
                owner=c.chain_file_owner,
                group=c.chain_file_group,
            )
            planned.append(issuers)
        if bundle.staple is not None:
            planned.append(self.staple_file(bundle.staple))
        return tuple(planned)

    def staple_file(self, response: bytes) -> PlannedFile:
        assert self.config.staple_path is not None
        return self._like_certificate(self.config.staple_path, response)

    def _like_certificate(self, path: Path, content: bytes) -> PlannedFile:
        c = self.config
        return PlannedFile(
            path,
            content,
            0o644,
            mode=c.cert_file_mode,
            owner=c.cert_file_owner,
            group=c.cert_file_group,
        )
