"""Requests to systems of others: to checked addresses only, with time-outs, no redirects, no proxy
of the environment, answers of bounded size, and failures in our own words."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpx

from certctl import __version__
from certctl.connectors.reach import Address, Reach
from certctl.domain.errors import Refused, Unavailable

TIMEOUT: Final = 10.0  # seconds
MOST: Final = 1_048_576  # bytes
TRIED: Final = 4  # addresses of one name


@dataclass(frozen=True)
class Answer:
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Pinned(httpx.AsyncBaseTransport):
    """Sends a request to an address of its host that `reach` has checked, and to no other. The
    name stays in the Host header, in SNI, and as what the certificate must be for."""

    def __init__(self, reach: Reach, *, verify: ssl.SSLContext) -> None:
        self._reach = reach
        self._verify = verify
        # A pool knows its connections by their address. Two names at one address must not share
        # them: the certificate was verified for one name alone.
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        *others, last = (await self._reach.addresses(host, port))[:TRIED]
        if host not in self._pools:
            self._pools[host] = httpx.AsyncHTTPTransport(verify=self._verify, trust_env=False)
        share = 1 / (len(others) + 1)
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                pinned = _pinned(request, host, address=address, share=share)
                return await self._pools[host].handle_async_request(pinned)
        pinned = _pinned(request, host, address=last, share=share)
        return await self._pools[host].handle_async_request(pinned)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


def _pinned(request: httpx.Request, host: str, *, address: Address, share: float) -> httpx.Request:
    """The request with `address` in its URL; connecting may take a share of its time."""
    extensions = dict(request.extensions)
    if (timeout := extensions.get("timeout")) and timeout.get("connect"):
        extensions["timeout"] = timeout | {"connect": timeout["connect"] * share}
    if not _is_literal(host):
        extensions["sni_hostname"] = host
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def client(reach: Reach, *, verify: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """A client that calls what `reach` lets it, and trusts the system's CAs unless `verify` says
    otherwise; to be closed. A refused address raises Refused."""
    return httpx.AsyncClient(
        transport=Pinned(reach, verify=verify or ssl.create_default_context()),
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"certctl/{__version__}", "Accept-Encoding": "identity"},
    )


async def ask(
    through: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    most: int = MOST,
) -> Answer:
    """The answer, whatever its status; `timeout`, in seconds, is for the whole of it.

    Raises:
        Unavailable: no answer in time, or none that is HTTP.
        Refused: an address that may not be called, or an answer of more than `most` bytes.
    """
    whose = place(url)
    try:
        async with asyncio.timeout(timeout):
            request = through.build_request(
                method, url, content=content, headers=headers, timeout=timeout
            )
            answer = await through.send(request, stream=True)
            try:
                body = await _body(answer, most, whose)
            finally:
                await answer.aclose()
    except (TimeoutError, httpx.TimeoutException):
        raise Unavailable(f"{whose} did not answer within {timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        # The error's own text may hold the URL, and with it a secret.
        raise Unavailable(f"{whose} cannot be reached ({_why(error)})") from None
    return Answer(answer.status_code, answer.headers, body)


async def _body(answer: httpx.Response, most: int, whose: str) -> bytes:
    """The bytes as they were sent: nothing is unpacked, so nothing grows."""
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > most:
            raise Refused(f"{whose} answered {answer.status_code} with more than {most} bytes")
    return bytes(body)


def accepted(answer: Answer, url: str) -> Answer:
    """The answer, if its status is one of success.

    Raises:
        Unavailable: for 429 and from 500 on, where another try may help.
        Refused: for any other status; redirects are not followed.
    """
    if 200 <= answer.status < 300:
        return answer
    told = f"{place(url)} answered {answer.status}"
    if answer.status == httpx.codes.TOO_MANY_REQUESTS or answer.status >= 500:
        raise Unavailable(told)
    if 300 <= answer.status < 400:
        raise Refused(f"{told}: redirects are not followed, set the address it leads to")
    raise Refused(told)


def place(url: str) -> str:
    """Scheme, host and port of a URL: what may be told of it, since the rest may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _why(error: BaseException) -> str:
    """The innermost reason that an operator can act on."""
    innermost = error
    while (cause := innermost.__cause__ or innermost.__context__) is not None:
        innermost = cause
    if isinstance(innermost, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {innermost.verify_message}"
    if isinstance(innermost, ConnectionError) and innermost.errno:
        return os.strerror(innermost.errno).lower()
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    return type(error).__name__
