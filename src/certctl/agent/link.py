"""HTTPS client of the agent routes: one method for each call, statuses told as our errors."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from contextlib import suppress
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from certctl.agent.trust import CA_PATH, MAX_CA_BYTES
from certctl.domain.errors import (
    CertctlError,
    Conflict,
    Gone,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Unavailable,
)
from certctl.wire import (
    CertificatePickup,
    ClientCertificate,
    ClientCertificateWish,
    Credential,
    CsrSubmission,
    Enrolled,
    Enrolment,
    Heartbeat,
    HeartbeatRecorded,
    JobReport,
    Message,
    Status,
    Work,
)

TIMEOUT = 30.0
CONNECTING = 5.0
CONNECTION_ENDS = {
    "connection.connect_tcp.failed",
    "connection.start_tls.complete",
    "connection.start_tls.failed",
}
ERRORS: dict[int, type[CertctlError]] = {
    400: Invalid,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: Unavailable,
}

Answer = TypeVar("Answer", bound=Message)


class _Problem(BaseModel):
    message: str = ""


def connect(
    server_url: str, tls: ssl.SSLContext, *, credential: str | None = None
) -> httpx.AsyncClient:
    """A client of the control plane; close it when done."""
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    return httpx.AsyncClient(base_url=server_url, verify=tls, timeout=TIMEOUT, headers=headers)


async def enrol(client: httpx.AsyncClient, enrolment: Enrolment) -> Enrolled:
    """Exchange a one-time token for a credential; errors as `Link`'s."""
    return await _call(client, "POST", "/api/v1/agents/enrol", answer=Enrolled, body=enrolment)


async def trust_anchors(client: httpx.AsyncClient) -> str:
    """The roots, PEM, that the server says it may be believed under; errors as `Link`'s."""
    response = await _answered(client, client.build_request("GET", CA_PATH, timeout=TIMEOUT))
    if len(response.content) > MAX_CA_BYTES:
        raise Unavailable(f"{CA_PATH} answers with more than CA certificates")
    return response.text


class Link:
    """The routes of one agent. Every method raises:

    Gone: this agent has been retired.
    NotAllowed: the credential is not, or no longer, good for this.
    NotFound, Conflict, Invalid, Refused: the server will not, and why.
    Unavailable: no answer, or one that asks for patience.
    """

    def __init__(self, client: httpx.AsyncClient, agent_id: str) -> None:
        self._client = client
        self._replaced: httpx.AsyncClient | None = None
        self.agent_id = agent_id
        self._prefix = f"/api/v1/agents/{agent_id}"
        # New at each start: what an earlier run of this agent had leased is offered again at once.
        self._session = secrets.token_hex(8)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatRecorded:
        return await _call(
            self._client,
            "POST",
            f"{self._prefix}/heartbeat",
            answer=HeartbeatRecorded,
            body=heartbeat,
        )

    async def next_credential(self) -> str:
        """Another credential; the present one is good until that is first used."""
        path = f"{self._prefix}/credential"
        return (await _call(self._client, "POST", path, answer=Credential)).credential

    def use_credential(self, credential: str) -> None:
        """From the next request on, unless a client certificate is presented."""
        if not self.presents:
            self._client.headers["Authorization"] = f"Bearer {credential}"

    async def client_certificate(self, wish: ClientCertificateWish) -> ClientCertificate:
        path = f"{self._prefix}/client-certificate"
        return await _call(self._client, "POST", path, answer=ClientCertificate, body=wish)

    async def present(self, tls: ssl.SSLContext) -> None:
        """The client certificate of `tls` instead of a credential, from the next request on; what
        is under way goes on over its own connection."""
        await self._close_replaced()
        self._replaced, self._client = self._client, connect(self.server_url, tls)

    async def trust_anchors(self) -> str:
        """As the function of this name, over the verified connection."""
        return await trust_anchors(self._client)

    @property
    def server_url(self) -> str:
        return str(self._client.base_url)

    @property
    def presents(self) -> bool:
        """Whether a client certificate is presented instead of a credential."""
        return "Authorization" not in self._client.headers

    async def believe(self, tls: ssl.SSLContext) -> None:
        """The roots of `tls` from the next request on, with the credential as before."""
        header = self._client.headers.get("Authorization")
        await self.present(tls)
        if header is not None:
            self._client.headers["Authorization"] = header

    async def aclose(self) -> None:
        await self._close_replaced()
        await self._client.aclose()

    async def _close_replaced(self) -> None:
        if self._replaced is not None:
            await self._replaced.aclose()

    async def work(self, wait: int) -> Work:
        """Jobs leased to this agent; the server may hold the answer for `wait` seconds."""
        return await _call(
            self._client,
            "GET",
            f"{self._prefix}/work?wait={wait}&session={self._session}",
            answer=Work,
            timeout=TIMEOUT + wait,
        )

    async def submit_csr(self, submission: CsrSubmission) -> None:
        await self._post("csr", submission)

    async def report(self, job_id: str, report: JobReport) -> None:
        """May be sent again when it is not known whether it arrived."""
        await self._post(f"jobs/{job_id}/status", report)

    async def certificate(self, certificate_id: str) -> CertificatePickup:
        """This agent's live version of a certificate."""
        path = f"{self._prefix}/certificates/{certificate_id}"
        return await _call(self._client, "GET", path, answer=CertificatePickup)

    async def _post(self, path: str, body: Message) -> None:
        await _call(self._client, "POST", f"{self._prefix}/{path}", answer=Status, body=body)


async def _call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    answer: type[Answer],
    body: Message | None = None,
    timeout: float = TIMEOUT,
) -> Answer:
    json = None if body is None else body.model_dump(mode="json", exclude_none=True)
    request = client.build_request(method, path, json=json, timeout=timeout)
    response = await _answered(client, request)
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        raise Unavailable(f"{method} {path} was answered by something unexpected") from error


async def _answered(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        response = await send(client, request)
    except httpx.HTTPError as error:
        words = str(error) or type(error).__name__
        raise Unavailable(f"{client.base_url} did not answer: {words}") from error
    if not response.is_success:
        raise _told(response)
    return response


async def send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The answer to `request`; when cancelled, a connection being made is let to its end first.

    The HTTP library closes a connection that fails, but one that is cancelled before its TLS
    handshake is over it forgets, open socket and all.
    """
    settled = asyncio.Event()
    settled.set()

    async def trace(event: str, _: object) -> None:
        if event == "connection.connect_tcp.started":
            settled.clear()
        elif event in CONNECTION_ENDS:
            settled.set()

    request.extensions["trace"] = trace
    call = asyncio.create_task(client.send(request))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        with suppress(TimeoutError):
            await asyncio.wait_for(settled.wait(), CONNECTING)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        raise


def _told(response: httpx.Response) -> CertctlError:
    code = response.status_code
    try:
        text = _Problem.model_validate_json(response.content).message
    except ValidationError:
        text = ""
    kind = Unavailable if code >= 500 else ERRORS.get(code, Refused)
    return kind(f"the server answered {code}: {text[:1000] or response.reason_phrase}")
