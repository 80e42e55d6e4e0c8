"""The plain-http face of the revocation plane: OCSP, CRLs and CA certificates from memory.

What it answers, `web.public.status` answers too, over HTTPS and from the database.
"""

from __future__ import annotations

import binascii
import logging
import time
from typing import Final
from urllib.parse import unquote_to_bytes

from certctl.domain.errors import CertctlError, NotFound
from certctl.pki import ocsp
from certctl.services.plane.answers import Answer
from certctl.services.plane.documents import Document
from certctl.services.plane.plane import Plane
from certctl.web.public import status
from certctl.web.public.wire import NO_STORE, Reply, Request, http_date, text

log = logging.getLogger("certctl.plane")
ROOT: Final = b"/.well-known/pki/"
OCSP, CRL, CA = ROOT + b"ocsp/", ROOT + b"crl/", ROOT + b"ca/"
HEALTH: Final = b"/health"
REQUEST_TYPE: Final = b"application/ocsp-request"
OCSP_TYPE: Final = b"content-type: application/ocsp-response\r\n"
UNKEPT: Final = OCSP_TYPE + NO_STORE
CACHED: Final = OCSP_TYPE + b"etag: %b\r\nlast-modified: %b\r\nexpires: %b\r\n"
DOCUMENT: Final = b'content-type: %b\r\netag: "%b"\r\nvary: accept-encoding\r\n%b'
LONGEST_AGE: Final = 3600  # seconds that a document may be kept without asking again
MALFORMED: Final = Reply(200, UNKEPT, ocsp.error_response("malformedRequest"))
TRY_LATER: Final = Reply(200, UNKEPT, ocsp.error_response("tryLater"))


class PlaneFace:
    """Answers requests of relying parties."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def quick(self, request: Request) -> Reply | None:
        """An OCSP answer that is at hand."""
        url = request.url
        if not url.startswith(OCSP):
            return None
        address, _, segment = url[len(OCSP) :].partition(b"/")
        if request.method == b"GET":
            der = _decoded(segment) if segment.startswith(b"M") else None
        elif request.method == b"POST" and request.header(b"content-type") == REQUEST_TYPE:
            der = None if segment else request.body
        else:
            der = None
        if der is None:
            return None
        try:
            answer = self._plane.quick(address.decode("latin-1"), der)
        except CertctlError:
            return None  # told by `answer`
        return None if answer is None else _told(request, answer)

    async def answer(self, request: Request) -> Reply:
        """Any reply; a refusal in words, or as an OCSP status where OCSP was asked."""
        try:
            return await self._routed(request)
        except ocsp.MalformedRequest:
            return MALFORMED
        except CertctlError as error:
            code, words = status.refusal(error)
            if code >= 500 and request.url.startswith(OCSP):
                return TRY_LATER
            return text(code, words, b"retry-after: 1\r\n" if code == 503 else b"")

    async def _routed(self, request: Request) -> Reply:
        path = request.url.partition(b"?")[0]
        if path.startswith(OCSP):
            return await self._ocsp(request, path[len(OCSP) :])
        if request.method not in (b"GET", b"HEAD"):
            return text(405, "only GET is allowed here", b"allow: GET, HEAD\r\n")
        if path == HEALTH:
            return self._health()
        name = _unquoted(path).rpartition("/")[2]
        if path.startswith(CRL):
            document = await self._plane.crl(*status.crl_named(_unquoted(path[len(CRL) :])))
            return await _document(request, document, b"application/pkix-crl")
        if path.startswith(CA) and name.endswith(".cer"):
            document = await self._plane.documents.certificate(name.removesuffix(".cer"))
            return await _document(request, document, b"application/pkix-cert")
        raise NotFound("no such resource")

    async def _ocsp(self, request: Request, rest: bytes) -> Reply:
        address, slash, segment = rest.partition(b"/")
        ca = _unquoted(address)
        if request.method == b"POST" and not slash:
            kind = request.header(b"content-type").partition(b";")[0].strip().lower()
            if kind not in (b"", REQUEST_TYPE):
                return text(415, "send application/ocsp-request")
            return _told(request, await self._plane.answer(ca, request.body))
        if request.method not in (b"GET", b"HEAD") or not segment:
            return text(405, "GET with the request in the path, or POST", b"allow: GET, POST\r\n")
        if segment.startswith(b"M"):
            return _told(request, await self._plane.answer(ca, _decoded(segment) or b""))
        digits = status.hex_serial(_unquoted(segment))
        return _told(request, await self._plane.answer_serial(ca, digits))

    def _health(self) -> Reply:
        """200 as long as there are answers; it says so when they come from memory alone."""
        plane = self._plane
        database = "ok"
        if plane.is_away:
            database = f"away for {int(time.time()) - plane.synced_at} s; answers go on from memory"
        return text(200, f"serials: {plane.size}\nsigned: {plane.signed}\ndatabase: {database}")


def _unquoted(path: bytes) -> str:
    return unquote_to_bytes(path).decode("latin-1")


def _decoded(segment: bytes) -> bytes | None:
    """The request in a path, percent-encoded or not (RFC 6960 appendix A.1)."""
    if b"%" in segment:
        segment = segment.replace(b"%2F", b"/").replace(b"%2B", b"+").replace(b"%3D", b"=")
        segment = unquote_to_bytes(segment) if b"%" in segment else segment
    try:
        return binascii.a2b_base64(segment, strict_mode=True)
    except binascii.Error:
        return None


def _told(request: Request, answer: Answer) -> Reply:
    if not answer.next_update:
        return Reply(200, UNKEPT, answer.der)
    etag = b'"%b"' % answer.etag.encode()
    lines = CACHED % (
        etag,
        http_date(answer.this_update),
        http_date(answer.next_update),
    )
    max_age = max(0, answer.next_update - int(time.time()) - 1)
    if request.headers and request.header(b"if-none-match") == etag:
        return Reply(304, lines, b"", max_age)
    return Reply(200, lines, answer.der, max_age, answer.again)


async def _document(request: Request, document: Document, media_type: bytes) -> Reply:
    """Conditional (RFC 9110 §13), and in gzip where that is asked for and worth it."""
    etag, body, encoding = document.etag, document.der, b""
    if b"gzip" in request.header(b"accept-encoding") and (packed := await document.packed()):
        etag, body, encoding = f"{etag}-gzip", packed, b"content-encoding: gzip\r\n"
    left = document.next_update - int(time.time()) if document.next_update else LONGEST_AGE
    max_age = max(0, min(left, LONGEST_AGE))
    lines = DOCUMENT % (media_type, etag.encode(), encoding)
    if document.this_update:
        lines += b"last-modified: %b\r\n" % http_date(document.this_update)
    if document.next_update:
        lines += b"expires: %b\r\n" % http_date(document.next_update)
    asked = request.header(b"if-none-match")
    if asked and (asked.strip() == b"*" or f'"{etag}"'.encode() in asked):
        return Reply(304, lines, b"", max_age)
    return Reply(200, lines, body, max_age)
