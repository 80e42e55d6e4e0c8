"""Whatever bytes strangers send to the public faces, the answer is one that is documented."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates, ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.pki.sealing import DataKey
from tests import kit
from tests.conftest import World, a_clone, open_world
from tests.web.kit import Site, open_site

EXAMPLES = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PKI = "/.well-known/pki"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)


@dataclass
class Strangers:
    """A site, asked from synchronous code; `request_der` is an OCSP request that it answers."""

    loop: asyncio.AbstractEventLoop
    site: Site
    request_der: bytes

    def do(self, call: Awaitable[httpx.Response]) -> httpx.Response:
        return self.loop.run_until_complete(call)  # type: ignore[arg-type]

    def pki(self, method: str, path: str, **how: Any) -> httpx.Response:
        return self.do(self.site.client.request(method, f"{PKI}{path}", **how))

    def api(self, method: str, path: str, **how: Any) -> httpx.Response:
        return self.do(self.site.client.request(method, f"/api/v1{path}", **how))


async def prepared(world: World) -> bytes:
    certificate_id = (await kit.an_issued_certificate(world))["id"]
    pem = await kit.value(
        world,
        "SELECT pem_chain FROM certificate_versions WHERE certificate_id = %(id)s",
        id=certificate_id,
    )
    leaf, issuer = load_pem_x509_certificates(pem.encode())[:2]
    built = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
    return built.build().public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def strangers(postgres: str, ready_template: tuple[str, DataKey]) -> Iterator[Strangers]:
    loop = asyncio.new_event_loop()
    with a_clone(postgres, ready_template[0]) as url:
        opened = open_world(url, ready_template[1])
        world = loop.run_until_complete(anext(opened))
        request_der = loop.run_until_complete(prepared(world))
        yield Strangers(loop, open_site(world), request_der)
        loop.run_until_complete(opened.aclose())
    loop.close()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes that were a request: some changed, some cut out, some put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 6)))
        data[at:end] = draw(st.binary(max_size=6))
    return bytes(data)


def is_an_ocsp_answer(answer: httpx.Response) -> bool:
    """One that somebody else's reader takes, or a plain refusal."""
    if answer.headers["Content-Type"] != "application/ocsp-response":
        return answer.status_code in {400, 404, 413, 415}
    status = ocsp.load_der_ocsp_response(answer.content).response_status
    return answer.status_code == 200 and status in {
        ocsp.OCSPResponseStatus.SUCCESSFUL,
        ocsp.OCSPResponseStatus.MALFORMED_REQUEST,
        ocsp.OCSPResponseStatus.UNAUTHORIZED,
    }


HEADERS = {"Content-Type": "application/ocsp-request"}


@EXAMPLES
@given(data=st.data())
def test_ocsp_requests_of_any_bytes(strangers: Strangers, data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=200) | damaged(strangers.request_der))
    assert is_an_ocsp_answer(
        strangers.pki("POST", "/ocsp/iss-local", content=body, headers=HEADERS)
    )


def test_the_request_that_is_damaged_is_answered_when_it_is_whole(strangers: Strangers) -> None:
    answer = strangers.pki(
        "POST", "/ocsp/iss-local", content=strangers.request_der, headers=HEADERS
    )
    told = ocsp.load_der_ocsp_response(answer.content)
    assert told.certificate_status is ocsp.OCSPCertStatus.GOOD


@EXAMPLES
@given(text=ANY_TEXT, prefix=st.sampled_from(["", "M", "ME", "0x", "00"]))
def test_ocsp_paths_of_any_text(strangers: Strangers, text: str, prefix: str) -> None:
    segment = quote(prefix + text, safe="")
    assert is_an_ocsp_answer(strangers.pki("GET", f"/ocsp/iss-local/{segment}"))


@EXAMPLES
@given(text=ANY_TEXT, place=st.sampled_from(["crl/", "ca/", "ocsp/", ""]))
def test_names_of_any_text(strangers: Strangers, text: str, place: str) -> None:
    answer = strangers.pki("GET", f"/{place}{quote(text, safe='')}")
    assert answer.status_code in {400, 404, 405}, answer.text


@EXAMPLES
@given(
    body=ANY_JSON.map(json.dumps) | ANY_TEXT,
    path=st.sampled_from(["agents/enrol", "auth/bootstrap"]),
)
def test_public_json_of_any_kind(strangers: Strangers, body: str, path: str) -> None:
    answer = strangers.api("POST", f"/{path}", content=body.encode())
    assert answer.status_code in {400, 401, 410, 413}, answer.text
    assert {"error", "message", "request_id"} <= set(answer.json())


@EXAMPLES
@given(
    secret=st.binary(max_size=60), scheme=st.sampled_from([b"Bearer ", b"bearer", b"Basic ", b""])
)
def test_authorization_of_any_bytes(strangers: Strangers, secret: bytes, scheme: bytes) -> None:
    value = (scheme + secret).replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"").strip()
    answer = strangers.api("GET", "/teams", headers=[(b"authorization", value)])
    assert answer.status_code == 401


@EXAMPLES
@given(text=ANY_TEXT | st.binary(max_size=80).map(lambda each: each.hex()))
def test_cursors_of_any_text(strangers: Strangers, text: str) -> None:
    headers = {"Authorization": "Bearer the key of the administrator"}
    answer = strangers.api("GET", f"/teams?cursor={quote(text)}", headers=headers)
    assert answer.status_code == (200 if not text else 400), answer.text
