"""The port of a deployment target: check it, deploy to it; more is an optional port."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from certctl.connectors.files import DeployFailed
from certctl.domain.errors import Invalid
from certctl.domain.names import Name

__all__ = ["Bundle", "Config", "DeployFailed", "Deployed", "Journals", "Stapled", "Target"]


@dataclass(frozen=True)
class Bundle:
    """A certificate with its private key, on the host that owns the key.

    `fingerprint_sha256` is lower hex, of the leaf's DER; `chain_pem` leaves the leaf out and may
    be empty; `names` are those of the leaf. `staple` is a verified OCSP response for the leaf, for
    a target that is fed one.
    """

    leaf_pem: str
    chain_pem: str
    key_pem: bytes = field(repr=False)
    fingerprint_sha256: str
    names: tuple[Name, ...]
    staple: bytes | None = None


@dataclass(frozen=True)
class Deployed:
    """`unchanged` says that the certificate was in service before."""

    fingerprint_sha256: str
    unchanged: bool
    detail: str


class Config(BaseModel):
    """What a target is told; each field's description is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(ABC):
    """A place where a certificate is used.

    Calls block; the agent makes them in a thread. `deploy` may be repeated without harm.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: BaseModel) -> None:
        self.config = config

    @classmethod
    def open(cls, config: Mapping[str, Any]) -> Self:
        """The target that `config` describes.

        Raises:
            Invalid: naming the first field that is wrong.
        """
        try:
            return cls(cls.Config.model_validate(config))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or "config"
            text = first["msg"].removeprefix("Value error, ")
            raise Invalid(f"{name}: {text}", field=name) from None

    @abstractmethod
    def check(self) -> None:
        """Raise a CertctlError with the reason if a deployment would fail now."""

    @abstractmethod
    def deploy(self, bundle: Bundle) -> Deployed:
        """Bring `bundle` into service and see that it is served.

        Raises:
            DeployFailed: when it is not in service afterwards.
            Unavailable: when the target cannot be worked on now.
        """


@runtime_checkable
class Journals(Protocol):
    """A target whose interrupted deployment can be undone from `journals`, see `files.recover`."""

    @property
    def journals(self) -> tuple[Path, ...]: ...


@runtime_checkable
class Stapled(Protocol):
    """A target whose server is fed OCSP staples from a file, which the agent keeps fresh."""

    needs_staple: ClassVar[bool]
    """Whether the server cannot do without the file, whatever the certificate asks for."""

    @property
    def staple_path(self) -> Path | None:
        """Where the staple lies, or None when the server is not fed."""

    def in_service(self) -> str:
        """The certificate in its file now, PEM: the leaf, then its chain.

        Raises:
            NotFound: when there is no such file.
            Unavailable: when it cannot be read.
        """

    def put_staple(self, response: bytes) -> None:
        """Replace the staple by `response` and let the server use it.

        Raises:
            Refused, Unavailable: when that fails; the file may hold the new one already.
        """
