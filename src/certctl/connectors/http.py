"""Requests to systems of others: time-outs, no redirects, no proxy of the environment, answers of
bounded size, and failures in our own words."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from certctl import __version__
from certctl.domain.errors import Refused, Unavailable

TIMEOUT: Final = 10.0  # seconds
MOST: Final = 1_048_576  # bytes


@dataclass(frozen=True)
class Answer:
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def client(*, verify: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """A client that trusts the system's CAs unless `verify` says otherwise; to be closed."""
    return httpx.AsyncClient(
        verify=verify or ssl.create_default_context(),
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
        Refused: an answer of more than `most` bytes.
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
