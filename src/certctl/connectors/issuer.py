"""The issuer port: what every CA connector offers, and the abilities only some have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from certctl.domain.errors import CertctlError
from certctl.domain.names import Name
from certctl.pki.keys import PublicKey
from certctl.pki.name_constraints import NONE, NameConstraints

Purpose = Literal["leaf", "ca", "ocsp_responder", "server", "agent"]


class Config(BaseModel):
    """Base of every issuer's configuration: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Order:
    """What a CA is asked for. `names` are the approved names, exactly those to be issued;
    `crl_shards` in how many parts our own CA is to keep the CRL (0: whole), `waived` the lint codes
    that do not block it now."""

    names: tuple[Name, ...]
    common_name: str | None
    public_key: PublicKey
    lifetime: timedelta
    ekus: tuple[str, ...] = ("serverAuth",)
    csr_pem: str | None = None
    must_staple: bool = False
    must_staple_critical: bool = False
    certificate_policies: tuple[str, ...] = ()
    cps_uri: str = ""
    short_lived: bool = False
    crl_shards: int = 0
    waived: tuple[str, ...] = ()
    purpose: Purpose = "leaf"
    path_length: int | None = None
    name_constraints: NameConstraints = NONE


@dataclass(frozen=True)
class Draft:
    """A linted certificate, complete but for its signature; `serial` is canonical hex. With
    `crl_shard` other than 0, `crl_url` is where that part of the CRL is to be found. `waived` is
    what its order says, for whoever must lint it again."""

    serial: str
    tbs_der: bytes
    not_after: datetime
    crl_shard: int = 0
    crl_url: str = ""
    waived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Issued:
    """A certificate and the chain to present with it, the issuing CA first; all DER. The codes of
    what lint found and passed over stand in `passed_over`."""

    cert_der: bytes
    chain: tuple[bytes, ...]
    passed_over: tuple[str, ...] = ()


class Issuer(Protocol):
    kind: ClassVar[str]
    Config: ClassVar[type[Any]]

    async def check(self) -> None:
        """Raises Unavailable or Refused, in words for the operator, when it could not issue now."""

    async def issue(self, order: Order) -> Issued:
        """Raises Unavailable when another try may help, Refused when not."""


@dataclass(frozen=True)
class Suggested:
    """A CA's renewal information (RFC 9773 §4.2); `ask_again` comes from Retry-After."""

    start: datetime
    end: datetime
    ask_again: timedelta
    explanation_url: str | None = None


@runtime_checkable
class SuggestsRenewal(Protocol):
    """A CA that tells when it would have its certificates renewed."""

    async def suggest(self, chain: tuple[bytes, ...], *, timeout: timedelta) -> Suggested:
        """The window for a certificate, given as DER with its chain, the leaf first.

        Raises:
            Unavailable: when the CA did not answer within `timeout` or in a form that can be read.
            Refused: when it has no such information.
        """


@runtime_checkable
class Prepares(Protocol):
    """A CA whose certificate can be written down before it is signed."""

    @property
    def repeats(self) -> bool:
        """Whether a draft that is signed again gives the same certificate."""
        ...

    async def prepare_many(self, orders: Sequence[Order]) -> list[Draft | CertctlError]:
        """Lint and draft each; an error, Invalid naming what the lint found, concerns its order
        alone."""

    async def complete_many(self, drafts: Sequence[Draft]) -> list[Issued | CertctlError]:
        """Sign drafts, perhaps again; the caller has recorded them."""
