"""The built-in CA: signs with a key we hold, after lint, in two steps that survive a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import ClassVar, TypeVar

from pydantic import Field

from certctl.connectors import issuer
from certctl.connectors.issuer import Draft, Issued, Order
from certctl.connectors.key_home import Run
from certctl.domain.errors import CertctlError, Invalid, Unavailable
from certctl.pki import lint, x509
from certctl.pki.keys import Signer, key_facts
from certctl.pki.name_constraints import NONE, NameConstraints
from certctl.pki.serials import new_serial, serial_text

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Authority:
    """The CA that signs: its certificate (None for a root that is being made), its signer and where
    that works, the chain above it, and the http addresses written into what it issues.
    `name_constraints` are its own and those of the CAs above it; `at_once` is how many signatures
    its key's home is asked for in one go."""

    id: str
    cert_der: bytes | None
    signer: Signer
    run: Run
    chain: tuple[bytes, ...]
    base_url: str
    clock: Callable[[], datetime]
    name_constraints: NameConstraints = NONE
    at_once: int = 1

    @cached_property
    def not_after(self) -> datetime | None:
        """When its own certificate ends; None for a root that is being made."""
        return None if self.cert_der is None else x509.facts(self.cert_der).not_after

    @property
    def ocsp_url(self) -> str:
        return f"{self.base_url}/.well-known/pki/ocsp/{self.id}"

    @property
    def crl_url(self) -> str:
        return f"{self.base_url}/.well-known/pki/crl/{self.id}"

    def crl_url_of(self, shard: int) -> str:
        """Of a part of the CRL, from 1; 0 is the whole."""
        return f"{self.crl_url}/{shard}" if shard else self.crl_url

    @property
    def certificate_url(self) -> str:
        return f"{self.base_url}/.well-known/pki/ca/{self.id}.cer"


class LocalCA:
    kind: ClassVar[str] = "GenericCA"

    class Config(issuer.Config):
        ca_common_name: str = Field("certctl", max_length=48, description="Name of the own CAs")
        validity_days: int = Field(
            90,
            ge=1,
            le=397,
            description="Longest life of a leaf, in days; a profile may be shorter",
        )

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._linted: dict[str, lint.Linted] = {}

    async def check(self) -> None:
        await self._authority.run(self._authority.signer.sign, b"certctl self-test")

    @property
    def repeats(self) -> bool:
        return self._authority.signer.repeats

    async def issue(self, order: Order) -> Issued:
        return await self.complete(await self.prepare(order))

    async def prepare(self, order: Order) -> Draft:
        """As `prepare_many`, for one, whose error is raised."""
        return _raised((await self.prepare_many([order]))[0])

    async def prepare_many(self, orders: Sequence[Order]) -> list[Draft | CertctlError]:
        return await asyncio.to_thread(lambda: [_tried(self._prepare, each) for each in orders])

    def _prepare(self, order: Order) -> Draft:
        ca, serial = self._authority, new_serial()
        if why := ca.name_constraints.why_not(order.names):
            raise Invalid(why)
        revocable = (
            order.purpose != "ocsp_responder" and ca.cert_der is not None and not order.short_lived
        )
        # By the serial, so that whoever tries again finds the same.
        shard = serial % order.crl_shards + 1 if revocable and order.crl_shards else 0
        crl_url = ca.crl_url_of(shard) if revocable else None
        template = self._template(order, serial, crl_url=crl_url)
        tbs = x509.draft(template, ca.cert_der, ca.signer.public_key)
        self._linted[serial_text(serial)] = self._lint(tbs, order)
        return Draft(
            serial_text(serial),
            tbs,
            template.not_after,
            shard,
            crl_url if shard and crl_url else "",
            order.waived,
        )

    def _template(self, order: Order, serial: int, *, crl_url: str | None) -> x509.Template:
        ca = self._authority
        is_root = ca.cert_der is None
        not_before, not_after = x509.validity(
            ca.clock(),
            order.lifetime,
            not_after_limit=ca.not_after,
        )
        return x509.Template(
            kind=order.purpose if order.purpose in ("ca", "ocsp_responder") else "leaf",
            serial=serial,
            subject_cn=order.common_name,
            organization="certctl" if order.purpose == "ca" else None,
            names=order.names,
            public_key=order.public_key,
            not_before=not_before,
            not_after=not_after,
            ekus=order.ekus,
            path_length=order.path_length,
            ocsp_url=ca.ocsp_url if crl_url else None,
            ca_issuers_url=None if is_root else ca.certificate_url,
            crl_url=crl_url,
            must_staple=order.must_staple,
            must_staple_critical=order.must_staple_critical,
            policies=order.certificate_policies,
            cps_uri=order.cps_uri,
            no_revocation=order.short_lived,
            name_constraints=order.name_constraints,
        )

    def _lint(self, tbs: bytes, order: Order) -> lint.Linted:
        ca, key = self._authority, key_facts(order.public_key)
        shape = (
            ca.id,
            order.purpose,
            key.algorithm,
            key.size,
            order.ekus,
            order.must_staple,
            order.must_staple_critical,
            order.certificate_policies,
            order.cps_uri,
            order.short_lived,
            order.path_length,
            bool(order.name_constraints),
            order.common_name is None,
            tuple(sorted({name.kind for name in order.names})),
        )
        return lint.check_certificate(
            tbs,
            ca.signer.public_key,
            issuer_der=ca.cert_der,
            shape=shape,
            waived=order.waived,
        )

    async def complete(self, draft: Draft) -> Issued:
        """As `complete_many`, for one, whose error is raised."""
        return _raised((await self.complete_many([draft]))[0])

    async def complete_many(self, drafts: Sequence[Draft]) -> list[Issued | CertctlError]:
        done: list[Issued | CertctlError] = []
        for at in range(0, len(drafts), self._authority.at_once):
            done += await self._signed(drafts[at : at + self._authority.at_once])
            if isinstance(done[-1], Unavailable):
                # The key's home does not answer: it is not asked for the rest.
                return done + [done[-1]] * (len(drafts) - len(done))
        return done

    async def _signed(self, drafts: Sequence[Draft]) -> list[Issued | CertctlError]:
        try:
            return await self._authority.run(
                lambda: [_tried(self._complete, draft) for draft in drafts]
            )
        except Unavailable as error:
            return [error] * len(drafts)

    def _complete(self, draft: Draft) -> Issued:
        linted = self._linted.pop(draft.serial, None) or self._lint_again(draft)
        signed = x509.sign(linted, self._authority.signer)
        return Issued(signed, self._authority.chain, linted.passed_over)

    def _lint_again(self, draft: Draft) -> lint.Linted:
        """A draft that an interrupted run left behind was linted by a process that is gone."""
        ca = self._authority
        return lint.check_certificate(
            draft.tbs_der,
            ca.signer.public_key,
            issuer_der=ca.cert_der,
            shape=draft.tbs_der,
            waived=draft.waived,
        )


def _tried(step: Callable[[A], T], given: A) -> T | CertctlError:
    try:
        return step(given)
    except CertctlError as error:
        return error


def _raised(outcome: T | CertctlError) -> T:
    if isinstance(outcome, CertctlError):
        raise outcome
    return outcome
