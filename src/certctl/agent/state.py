"""What the agent remembers between starts: who it is, whom it trusts, what it was deploying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from certctl.agent.private import own_folder, write_private
from certctl.domain.errors import Unsafe


@dataclass(frozen=True)
class Identity:
    """An enrolled agent; `credential` is its bearer token at `server_url`."""

    agent_id: str
    credential: str = field(repr=False)
    server_url: str


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    agent_id: str
    credential: str
    server_url: str


class KeptStaple(BaseModel):
    """A target whose staple is kept fresh, and how that went last; `problem` is empty when well.

    `since` and `until` are thisUpdate and the end of the staple that was put in place last.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    target_id: str
    target_type: str
    target_config: Mapping[str, Any]
    status: Literal["good", "revoked"] | None = None
    since: datetime | None = None
    until: datetime | None = None
    problem: str = ""


PATHS = TypeAdapter(tuple[Path, ...])
STAPLES = TypeAdapter(tuple[KeptStaple, ...])


class State:
    """The agent's state folder.

    Raises:
        Unsafe: when the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        # Others may pass through: by default the folder is shared with the control plane's data.
        self.folder = own_folder(folder, "CERTCTL_AGENT_STATE_DIR", mode=0o755)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def client_pair(self) -> Path:
        """Key and chain, PEM, of the client certificate."""
        return self.folder / "client.pem"

    def keep_client_pair(self, pem: str) -> None:
        write_private(self.client_pair, pem.encode())

    def identity(self) -> Identity | None:
        """The identity kept at enrolment; Unsafe when the file is damaged."""
        path = self.folder / "agent.json"
        if not path.exists():
            return None
        try:
            stored = _Stored.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise Unsafe(f"{path} cannot be read; delete it and enrol again") from error
        return Identity(stored.agent_id, stored.credential, stored.server_url)

    def keep_identity(self, identity: Identity) -> None:
        stored = _Stored(
            agent_id=identity.agent_id,
            credential=identity.credential,
            server_url=identity.server_url,
        )
        write_private(self.folder / "agent.json", stored.model_dump_json().encode())

    def keep_ca(self, pem: str) -> None:
        write_private(self.ca_file, pem.encode())

    def journals(self) -> tuple[Path, ...]:
        """First files of all deployments ever begun here, for `files.recover`."""
        path = self.folder / "journals.json"
        try:
            return PATHS.validate_json(path.read_bytes())
        except FileNotFoundError:
            return ()
        except ValidationError as error:
            raise Unsafe(f"{path} cannot be read; check the deployments, then delete it") from error

    def remember_journals(self, paths: tuple[Path, ...]) -> None:
        """Called before a deployment touches anything."""
        known = self.journals()
        if added := tuple(path for path in paths if path not in known):
            write_private(self.folder / "journals.json", PATHS.dump_json(known + added))

    def staples(self) -> tuple[KeptStaple, ...]:
        """The targets whose staples are kept fresh; Unsafe when the file is damaged."""
        path = self.folder / "staples.json"
        try:
            return STAPLES.validate_json(path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise Unsafe(
                f"{path} cannot be read; delete it, then deploy the certificates again"
            ) from error

    def keep_staples(self, staples: tuple[KeptStaple, ...]) -> None:
        write_private(self.folder / "staples.json", STAPLES.dump_json(staples, indent=1))
