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

__all__ = ["Bundle", "Config", "DeployFailed", "Deployed", "Journals", "Target"]


@dataclass(frozen=True)
class Bundle:
    """A certificate with its private key, on the host that owns the key.

    `fingerprint_sha256` is lower hex, of the leaf's DER; `chain_pem` leaves the leaf out and may
    be empty; `names` are those of the leaf.
    """

    leaf_pem: str
    chain_pem: str
    key_pem: bytes = field(repr=False)
    fingerprint_sha256: str
    names: tuple[Name, ...]


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
