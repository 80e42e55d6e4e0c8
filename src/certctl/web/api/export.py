"""Certificates as files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import ConfigDict, Field
from starlette.responses import Response

from certctl.domain.access import Permission
from certctl.services import export as service
from certctl.web.api.common import In, Out
from certctl.web.gate import Call, Resource

exports = Resource("/certificates", tag="certificates")


class PemExport(Out):
    cert_pem: str
    chain_pem: str
    full_pem: str


class Pkcs12Wish(In):
    # A password may begin or end with a space.
    model_config = ConfigDict(str_strip_whitespace=False)

    password: Annotated[str, Field(max_length=256, repr=False)] = ""
    with_key: bool | None = None


@exports.get("/{id}/export/pem", needs=Permission.CERT_READ, answer=PemExport, errors=(404, 409))
async def export_certificate_pem(
    call: Call,
    id: str,
    download: Annotated[bool, Query(description="The full chain as a file")] = False,
) -> Any:
    """The newest live version: certificate, chain, and both together."""
    found = await service.pem(call.on, call.actor, id)
    if download:
        return _file(found.full_pem.encode(), f"{found.name}.pem", "application/x-pem-file")
    return {
        "cert_pem": found.cert_pem,
        "chain_pem": found.chain_pem,
        "full_pem": found.full_pem,
    }


@exports.post(
    "/{id}/export/pkcs12",
    needs=Permission.CERT_EDIT,
    answer=None,
    status=200,
    errors=(404, 409),
)
async def export_certificate_pkcs12(call: Call, id: str, body: Pkcs12Wish | None = None) -> Any:
    """The newest live version as PKCS #12, with the private key when the server holds it and
    `with_key` is not false; a file with a key needs a password of 8 characters."""
    wish = body or Pkcs12Wish()
    name, made = await service.pkcs12(
        call.on, call.actor, id, password=wish.password, with_key=wish.with_key
    )
    return _file(made, f"{name}.p12", "application/x-pkcs12")


def _file(content: bytes, name: str, media_type: str) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
    }
    return Response(content, media_type=media_type, headers=headers)
