"""CAs of ours that a root outside has signed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Permission
from certctl.pki.keys import KeyAlgorithm
from certctl.services import subordinate as service
from certctl.web.api.common import In, Out
from certctl.web.api.hierarchy import CA
from certctl.web.gate import Call, Resource

of_issuer = Resource("/issuers", tag="authorities")
intermediates = Resource("/intermediates", tag="authorities")
MANAGE = Permission.CA_HIERARCHY_MANAGE
Pem = Annotated[str, Field(min_length=1, max_length=65536)]
CAName = Annotated[str, Field(min_length=1, max_length=64)]


class ImportedCA(In):
    """A CA that an enterprise root has signed, with its private key (PKCS#8, PKCS#1 or SEC 1; a
    `passphrase` when it is encrypted). The chain goes up to the root, in any order; it may stand
    after the certificate instead. Without a `name` the CA is called by its common name."""

    name: CAName | None = None
    certificate_pem: Pem
    chain_pem: Annotated[str, Field(max_length=65536)] = ""
    key_pem: Annotated[str, Field(min_length=1, max_length=32768, repr=False)]
    passphrase: Annotated[str, Field(max_length=1024, repr=False)] = ""


class WantedCA(In):
    """`path_len_constraint` is how many CAs are to stand in a row below it."""

    name: CAName
    algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256
    path_len_constraint: Annotated[int, Field(ge=0, le=8)] = 0


class InstalledCA(In):
    """What came back from outside: the certificate, and the chain above it up to the root."""

    certificate_pem: Pem
    chain_pem: Annotated[str, Field(max_length=65536)] = ""


class CARequest(Out):
    id: str
    name: str
    csr_pem: str


@of_issuer.post("/{id}/intermediates/import", needs=MANAGE, answer=CA, errors=(404, 409))
async def import_ca(call: Call, id: str, body: ImportedCA) -> Any:
    """Take over a CA with its key. The CAs above it are kept without a key: they sign nothing, and
    `key_held` is false."""
    wish = service.Import(
        id, body.certificate_pem, body.chain_pem, body.key_pem, body.passphrase, body.name
    )
    return await service.load(call.on, call.actor, wish)


@of_issuer.post("/{id}/intermediates/csr", needs=MANAGE, answer=CARequest, errors=(404, 409))
async def request_ca(call: Call, id: str, body: WantedCA) -> Any:
    """Make the key of a CA and the CSR that a root outside is to sign. Until its certificate is
    installed it is `preparing`; asking again for its name gives the same CSR."""
    wish = service.Wanted(id, body.name, body.path_len_constraint, body.algorithm)
    return await service.request(call.on, call.actor, wish)


@intermediates.get("/{id}/csr", needs=MANAGE, answer=CARequest, errors=(404, 409))
async def get_ca_csr(call: Call, id: str) -> Any:
    """The CSR of a CA that a root outside has signed or is to sign."""
    return await service.csr(call.on, call.actor, id)


@intermediates.post("/{id}/install", needs=MANAGE, answer=CA, status=200, errors=(404, 409))
async def install_ca(call: Call, id: str, body: InstalledCA) -> Any:
    """Give a CA that was made from a CSR its certificate; it signs from now on."""
    return await service.install(
        call.on,
        call.actor,
        id,
        certificate_pem=body.certificate_pem,
        chain_pem=body.chain_pem,
    )
