"""Certificates as files: PEM, and PKCS #12 with the key where the server holds it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from certctl.domain.access import Actor, Permission
from certctl.domain.errors import Conflict
from certctl.pki.pkcs12 import make_pkcs12
from certctl.pki.sealing import Place
from certctl.pki.x509 import chain_pem, ders_of_pem
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import certificates
from certctl.store import export as store
from certctl.store.db import Row, Session, Tx


@dataclass(frozen=True)
class Pem:
    """The newest live version: the certificate, its chain, and both in one text."""

    name: str
    cert_pem: str
    chain_pem: str

    @property
    def full_pem(self) -> str:
        return self.cert_pem + self.chain_pem


async def pem(on: Platform, actor: Actor, certificate_id: str) -> Pem:
    """Raises NotFound; Conflict when there is no live version."""
    async with on.db.transaction() as tx:
        row, version = await _newest(tx, actor, certificate_id, needs=Permission.CERT_READ)
        await _record(tx, actor, certificate_id, version, form="pem", with_key=False)
    leaf, *chain = ders_of_pem(version["pem_chain"])
    return Pem(file_name(row["name"]), chain_pem([leaf]), chain_pem(chain))


async def pkcs12(
    on: Platform,
    actor: Actor,
    certificate_id: str,
    *,
    password: str,
    with_key: bool | None,
) -> tuple[str, bytes]:
    """A file name without ending, and the PKCS #12. With `with_key` None the key is in it when
    the server holds it, and never when False.

    Raises:
        NotFound: for no such certificate. Conflict: no live version, or `with_key` is True and
            the key is elsewhere. Invalid: the password is too short for a key.
    """
    async with on.db.read() as session:
        row, version = await _newest(session, actor, certificate_id, needs=Permission.CERT_EDIT)
    if with_key and version["sealed_key"] is None:
        raise Conflict("with_key: the server does not hold this key", field="with_key")
    key_pem = None if with_key is False else _key(on, version)
    name, chain = file_name(row["name"]), ders_of_pem(version["pem_chain"])
    made = await asyncio.to_thread(make_pkcs12, name, chain, key_pem=key_pem, password=password)
    async with on.db.transaction() as tx:
        has_key = key_pem is not None
        await _record(tx, actor, certificate_id, version, form="pkcs12", with_key=has_key)
    return name, made


def file_name(name: str) -> str:
    """A certificate's name as one that every file system takes; `certificate` when nothing of it
    is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("*", "wildcard")).strip("._-")[:100] or (
        "certificate"
    )


def _key(on: Platform, version: Row) -> str | None:
    if version["sealed_key"] is None:
        return None
    place = Place("certificate_versions", "sealed_key", version["id"])
    return on.data_key.unseal(bytes(version["sealed_key"]), place).decode()


async def _newest(
    session: Session, actor: Actor, certificate_id: str, *, needs: Permission
) -> tuple[Row, Row]:
    row = await certificates.get(session, certificate_id, within=actor.scope(needs))
    version = await store.newest_live(session, certificate_id)
    if version is None:
        raise Conflict(f"certificate {certificate_id} has no live version", field="status")
    return row, version


async def _record(
    tx: Tx, actor: Actor, certificate_id: str, version: Row, *, form: str, with_key: bool
) -> None:
    await audit.record(
        tx,
        actor,
        "certificate_exported",
        on=("certificate", certificate_id),
        form=form,
        with_key=with_key,
        version_id=version["id"],
        fingerprint_sha256=version["fingerprint_sha256"],
    )
