"""HTTPS client of the management API: one place for time-outs and for what an answer means."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from certctl.cli.settings import API_KEY, CA_BUNDLE, SERVER_URL, Access
from certctl.connectors.tls import client_context
from certctl.domain.errors import (
    CertctlError,
    Conflict,
    Gone,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Stale,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unsafe,
)

TIMEOUT: Final = 30.0
PAGE_SIZE: Final = 500
PATIENCE: Final = 5
LONGEST_PAUSE: Final = 10
NO_KEY: Final = (
    f"no API key was given: set {API_KEY}, use --api-key-file, or run where the server's "
    "client.toml can be read"
)


class Api:
    """The API of one server. Paths are given by their segments: `get("certificates", id)`.

    Every method raises what the server's answer means: Invalid, NotFound, Conflict, … with its
    sentence, Unavailable when there is no usable answer, Unsafe for a CA file of no use.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        key = access.api_key
        self._http = httpx.Client(
            base_url=access.server_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=trust(access),
            timeout=TIMEOUT,
            trust_env=not _is_loopback(access.server_url),
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, *path: str, **query: Any) -> Any:
        return self._call("GET", path, query=query)

    def post(self, *path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        return self._call("POST", path, query=query or {}, body=body)

    def put(self, *path: str, body: Any) -> Any:
        return self._call("PUT", path, query={}, body=body)

    def delete(self, *path: str, query: dict[str, Any] | None = None) -> Any:
        return self._call("DELETE", path, query=query or {})

    def download(self, *path: str, body: Any) -> bytes:
        """A POST that answers with a file."""
        return self._answer("POST", path, query={}, body=body).content

    @contextmanager
    def stream(self, *path: str, **query: Any) -> Iterator[Iterator[bytes]]:
        """A GET whose answer is read piece by piece, and must not end before its end."""
        where = "/api/v1/" + "/".join(quote(segment, safe="") for segment in path)
        given = {name: value for name, value in query.items() if value is not None}
        try:
            with self._http.stream("GET", where, params=given) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _problem(answer, self.access)
                yield answer.iter_bytes()
        except httpx.TimeoutException as error:
            told = f"{self.access.server_url} was silent for {TIMEOUT:g} s"
            raise Unavailable(told) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(_unreachable(error, self.access)) from error

    def walk(self, *path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every row of a list, by cursor."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.get(*path, **query, cursor=cursor, page_size=PAGE_SIZE)
            yield from page["data"]
            cursor = page["next_cursor"]

    def probe(self, path: str) -> tuple[bool, Any]:
        """`/health` or `/ready`: whether it is fine, and what it says, be it 200 or 503."""
        answer = self._send("GET", path, query={}, body=None)
        if answer.status_code not in {200, 503}:
            raise _problem(answer, self.access)
        return answer.status_code == 200, _json(answer, self.access)

    def _call(
        self, method: str, path: tuple[str, ...], *, query: dict[str, Any], body: Any = None
    ) -> Any:
        answer = self._answer(method, path, query=query, body=body)
        return None if answer.status_code == httpx.codes.NO_CONTENT else _json(answer, self.access)

    def _answer(
        self, method: str, path: tuple[str, ...], *, query: dict[str, Any], body: Any
    ) -> httpx.Response:
        where = "/api/v1/" + "/".join(quote(segment, safe="") for segment in path)
        for _ in range(PATIENCE):
            answer = self._send(method, where, query=query, body=body)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(min(_retry_after(answer), LONGEST_PAUSE))
        if not answer.is_success:
            raise _problem(answer, self.access)
        return answer

    def _send(self, method: str, where: str, *, query: dict[str, Any], body: Any) -> httpx.Response:
        given = {name: value for name, value in query.items() if value is not None}
        try:
            return self._http.request(method, where, params=given, json=body)
        except httpx.TimeoutException as error:
            told = f"{self.access.server_url} did not answer within {TIMEOUT:g} s"
            raise Unavailable(told) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(_unreachable(error, self.access)) from error


def trust(access: Access) -> ssl.SSLContext:
    """TLS 1.3 to a server that the CA file vouches for, or the system's CAs without one.

    Raises:
        Unsafe: when the file holds no certificate.
    """
    try:
        return client_context(access.ca_file)
    except OSError as error:
        raise Unsafe(
            f"{access.ca_file} holds no usable CA certificate; correct --ca-bundle, {CA_BUNDLE} "
            "or ca_file in client.toml"
        ) from error


def _json(answer: httpx.Response, access: Access) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise Unavailable(_stranger(answer, access)) from None


def _stranger(answer: httpx.Response, access: Access) -> str:
    return (
        f"{access.server_url} answered {answer.status_code} and not as a certctl server does; "
        f"check {SERVER_URL}"
    )


def _problem(answer: httpx.Response, access: Access) -> CertctlError:
    """The server's own words in the class of its status."""
    try:
        body = answer.json()
        word, message, name = str(body["error"]), str(body["message"]), body.get("field")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unavailable(_stranger(answer, access))
    match answer.status_code:
        case 400:
            return Invalid(message, field=name)
        case 401:
            return Unauthenticated(message if access.api_key else NO_KEY)
        case 403:
            return NotAllowed(message)
        case 404:
            return NotFound(message)
        case 409:
            return Conflict(message, field=name)
        case 410:
            return Gone(message)
        case 412:
            return Stale(message)
        case 413:
            return TooLarge(message)
        case 429:
            return TooMany(message, retry_after=_retry_after(answer))
        case 502 if word == "refused_upstream":
            return Refused(message)
        case status if status < 500:
            return Refused(message)
    return Unavailable(f"{message} (request {body.get('request_id', 'unknown')})")


def _retry_after(answer: httpx.Response) -> int:
    text = answer.headers.get("Retry-After", "")
    return max(1, int(text)) if text.isascii() and text.isdigit() else 1


def _unreachable(error: Exception, access: Access) -> str:
    untrusted = _cause(error)
    if untrusted is not None:
        return (
            f"the certificate of {access.server_url} is not trusted: {untrusted.verify_message}; "
            f"name the PEM file of its CA with --ca-bundle or {CA_BUNDLE}"
        )
    reason = str(error) or type(error).__name__
    return f"{access.server_url} cannot be reached ({reason}); check that it runs, and {SERVER_URL}"


def _cause(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_loopback(url: str) -> bool:
    """A proxy of the environment cannot reach this machine's own loopback."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
