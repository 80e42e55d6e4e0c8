"""OCSP, CRLs and CA certificates: anonymous by RFC, over plain http and over HTTPS."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from certctl.domain.errors import CertctlError, Invalid, NotFound, TooLarge, TooMany, Unavailable
from certctl.pki import ocsp
from certctl.services import authority, crls, status
from certctl.services.platform import Platform
from certctl.web import problems
from certctl.web.public.router import Declared, PublicRouter, body_of

FACE: Final = Declared(
    paths=("/.well-known/pki/",),
    authentication="(public)",
    errors="OCSP or plain text",
    routes=(
        ("POST", "/.well-known/pki/ocsp/{id}"),
        ("GET", "/.well-known/pki/ocsp/{id}/{request}"),
        ("GET", "/.well-known/pki/crl/{id}"),
        ("GET", "/.well-known/pki/crl/{id}/{shard}"),
        ("GET", "/.well-known/pki/ca/{name}"),
    ),
)
MOST: Final = 65_536
IN_ONE: Final = 262_144
OCSP_TYPE: Final = "application/ocsp-response"
CRL_NAME: Final = re.compile(r"(?P<ca>[^/]+?)(?:/(?P<shard>[1-9][0-9]{0,3}))?(?:\.crl)?")
HEX: Final = re.compile(r"[0-9A-Fa-f:]{1,80}")


def status_app(platform: Platform) -> ASGIApp:
    responder, lists = status.Responder(platform), crls.Lists(platform)

    async def ocsp_post(request: Request) -> Response:
        kind = request.headers.get("content-type", "application/ocsp-request")
        if kind.split(";")[0].strip().lower() != "application/ocsp-request":
            return Response("send application/ocsp-request\n", 415, media_type="text/plain")
        return await _answer(request, await body_of(request, MOST))

    async def ocsp_get(request: Request) -> Response:
        segment = request.path_params["request"]
        if not segment.startswith("M"):
            serial, ca_id = hex_serial(segment), request.path_params["id"]
            return await _told(request, responder.answer_serial(ca_id, serial))
        try:
            der = base64.b64decode(unquote(segment).replace(" ", "+"), validate=True)
        except (binascii.Error, ValueError):
            return _plain(ocsp.error_response("malformedRequest"))
        return await _answer(request, der)

    async def _answer(request: Request, der: bytes) -> Response:
        return await _told(request, responder.answer(request.path_params["id"], der))

    async def _told(request: Request, answering: Awaitable[status.Answer]) -> Response:
        try:
            return _ocsp(await answering, request)
        except ocsp.MalformedRequest:
            return _plain(ocsp.error_response("malformedRequest"))
        except Unavailable:
            return _plain(ocsp.error_response("tryLater"))

    async def crl(request: Request) -> Response:
        found = await lists.present(*crl_named(request.path_params["name"]))
        answer = status.Answer(found.der, found.this_update, found.next_update)
        return _cached(request, answer, "application/pkix-crl", digest=found.sha256)

    async def ca(request: Request) -> Response:
        name = request.path_params["name"]
        if not name.endswith(".cer"):
            raise NotFound("the address of a CA certificate ends in .cer")
        der = await authority.certificate(platform, name.removesuffix(".cer"))
        return _cached(request, status.Answer(der), "application/pkix-cert")

    return PublicRouter(
        [
            Route("/.well-known/pki/ocsp/{id}", ocsp_post, methods=["POST"]),
            Route("/.well-known/pki/ocsp/{id}/{request:path}", ocsp_get, methods=["GET"]),
            Route("/.well-known/pki/crl/{name:path}", crl, methods=["GET"]),
            Route("/.well-known/pki/ca/{name}", ca, methods=["GET"]),
        ],
        tell=tell,
    )


def crl_named(path: str) -> tuple[str, int]:
    """The CA or issuer of a CRL's address, and the shard. Raises NotFound for another form."""
    found = CRL_NAME.fullmatch(path)
    if found is None:
        raise NotFound("no such resource")
    return found["ca"], int(found["shard"] or 0)


def hex_serial(segment: str) -> str:
    """The digits of a serial, without the zeros and colons that tools write."""
    if not HEX.fullmatch(segment):
        raise Invalid("the serial is hexadecimal", field="serial")
    return segment.replace(":", "").lstrip("0") or "0"


def tell(error: CertctlError, request_id: str) -> Response:
    """In words of plain text: what fetches from here reads no JSON."""
    code, words = refusal(error)
    headers = {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = str(problems.RETRY_AFTER)
    return Response(f"{words}\n", code, headers=headers, media_type="text/plain")


def refusal(error: CertctlError) -> tuple[int, str]:
    """Status and words; what went wrong inside is nobody's business."""
    code, _ = problems.row_for(error)
    told = isinstance(error, Invalid | NotFound | TooLarge | TooMany)
    return code, error.message if told else "later"


def _plain(der: bytes) -> Response:
    return Response(der, headers={"Cache-Control": "no-store"}, media_type=OCSP_TYPE)


def _ocsp(answer: status.Answer, request: Request) -> Response:
    if answer.next_update is None:
        return _plain(answer.der)
    return _cached(request, answer, OCSP_TYPE)


def _cached(
    request: Request, answer: status.Answer, media_type: str, *, digest: str = ""
) -> Response:
    """With validators and, where the content ends, the time until then (RFC 5019 §6). `digest` is
    the SHA-256 of the DER where it is known."""
    tag = f'"{(digest or sha256(answer.der).hexdigest())[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "public, max-age=3600"}
    if answer.this_update and answer.next_update:
        headers["Last-Modified"] = _date(answer.this_update)
        headers["Expires"] = _date(answer.next_update)
        seconds = int((answer.next_update - answer.this_update).total_seconds() / 2)
        headers["Cache-Control"] = (
            f"max-age={min(seconds, 300)}, public, no-transform, must-revalidate"
        )
    known = request.headers.get("if-none-match", "")
    if {"*", tag} & {each.strip().removeprefix("W/") for each in known.split(",")}:
        return Response(status_code=304, headers=headers)
    if len(answer.der) > IN_ONE:
        headers["Content-Length"] = str(len(answer.der))
        return StreamingResponse(_slices(answer.der), headers=headers, media_type=media_type)
    return Response(answer.der, headers=headers, media_type=media_type)


async def _slices(der: bytes) -> AsyncIterator[bytes]:
    """Only what is under way to a client is copied for it."""
    for at in range(0, len(der), IN_ONE):
        yield der[at : at + IN_ONE]


def _date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
