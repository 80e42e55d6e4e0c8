"""OCSP, CRLs and CA certificates as relying parties fetch them (RFC 6960, RFC 5019, RFC 5280)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as cocsp

from certctl.pki import der, ocsp
from tests.web.kit import Site
from tests.web.relying import relying

# A served and a revoked certificate are made once; nothing here changes them.
pytestmark = pytest.mark.asyncio(loop_scope="module")
GOOD, REVOKED, UNKNOWN = cocsp.OCSPCertStatus
SUCCESSFUL = cocsp.OCSPResponseStatus.SUCCESSFUL
MALFORMED = cocsp.OCSPResponseStatus.MALFORMED_REQUEST
UNAUTHORIZED = cocsp.OCSPResponseStatus.UNAUTHORIZED
PKI = "/.well-known/pki"


@dataclass(frozen=True)
class Issued:
    """A listener, and what was issued: a good leaf, a revoked one, the chain."""

    site: Site
    http: httpx.AsyncClient
    good: x509.Certificate
    revoked: x509.Certificate
    sharded: x509.Certificate
    issuing: x509.Certificate
    root: x509.Certificate
    ca_id: str
    root_id: str

    async def ask(self, request: bytes, where: str = "iss-local") -> httpx.Response:
        headers = {"Content-Type": "application/ocsp-request"}
        return await self.http.post(f"{PKI}/ocsp/{where}", content=request, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["https", "plain http"])
async def issued(made: Issued, request: pytest.FixtureRequest) -> AsyncIterator[Issued]:
    """As each of the two listeners tells it."""
    if request.param == "https":
        yield made
        return
    async with relying(made.site.world.platform) as http:
        yield replace(made, http=http)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(shared_site: Site) -> AsyncIterator[Issued]:
    site = shared_site
    order, agent = await site.served()
    chain = await chain_of(site, order["id"])
    other = await site.order(name="lost", target_ids=order["target_ids"])
    (item,) = (await site.work(agent))["jobs"]
    await site.send_csr(agent, item)
    revoked = await chain_of(site, other["id"])
    profile = await site.post("/profiles", {"name": "in shards", "crl_shards": 1})
    third = await site.order(
        name="in-a-shard", target_ids=order["target_ids"], certificate_profile_id=profile["id"]
    )
    offered = (await site.work(agent))["jobs"]
    (item,) = [each for each in offered if each["certificate_id"] == third["id"]]
    await site.send_csr(agent, item)
    sharded = await chain_of(site, third["id"])
    body = {"reason": "keyCompromise"}
    await site.post(f"/certificates/{other['id']}/revoke", body, status=200)
    async with site.world.platform.db.read() as session:
        rows = await session.all("SELECT id, parent_id FROM authorities ORDER BY parent_id IS NULL")
    root = x509.load_pem_x509_certificate((await site.call("GET", "/ca", key=None)).content)
    yield Issued(
        site, site.client, chain[0], revoked[0], sharded[0], chain[1], root,
        rows[0]["id"], rows[1]["id"],
    )  # fmt: skip


async def chain_of(site: Site, certificate_id: str) -> list[x509.Certificate]:
    (version,) = (await site.get(f"/certificates/{certificate_id}/versions"))["data"]
    return x509.load_pem_x509_certificates(version["pem_chain"].encode())


def a_request(
    leaf: x509.Certificate, issuer: x509.Certificate, *, nonce: bytes | None = None
) -> bytes:
    builder = cocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def with_raw_nonce(issued: Issued, nonce: bytes) -> bytes:
    """A request whose nonce has a size that no library would make."""
    cert_id = ocsp.cert_id(der_of(issued.issuing), issued.good.serial_number)
    extension = der.extension(ocsp.NONCE, der.octets(nonce))
    requests = der.sequence(der.sequence(cert_id.raw))
    return der.sequence(der.sequence(requests, der.explicit(2, der.sequence(extension))))


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def read(answer: httpx.Response) -> cocsp.OCSPResponse:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/ocsp-response"
    return cocsp.load_der_ocsp_response(answer.content)


async def test_a_served_certificate_is_good_and_the_answer_is_the_responders(
    issued: Issued,
) -> None:
    told = read(await issued.ask(a_request(issued.good, issued.issuing)))
    assert (told.certificate_status, told.serial_number) == (GOOD, issued.good.serial_number)
    (responder,) = told.certificates
    responder.verify_directly_issued_by(issued.issuing)
    assert list(told.extensions) == []


async def test_a_revoked_certificate_is_told_with_its_reason(issued: Issued) -> None:
    told = read(await issued.ask(a_request(issued.revoked, issued.issuing)))
    assert told.certificate_status is REVOKED
    assert told.revocation_reason is x509.ReasonFlags.key_compromise
    assert told.revocation_time_utc is not None
    assert told.revocation_time_utc <= datetime.now(UTC)


async def test_a_serial_that_was_never_issued_is_unknown(issued: Issued) -> None:
    answer = await issued.http.get(f"{PKI}/ocsp/iss-local/1234567890")
    assert read(answer).certificate_status is UNKNOWN


async def test_ca_and_issuer_id_lead_to_the_same_responder(issued: Issued) -> None:
    request = a_request(issued.good, issued.issuing)
    assert read(await issued.ask(request, issued.ca_id)).certificate_status is GOOD


async def test_the_root_answers_for_the_issuing_ca(issued: Issued) -> None:
    request = a_request(issued.issuing, issued.root)
    assert read(await issued.ask(request, issued.root_id)).certificate_status is GOOD


async def test_the_certificate_id_of_another_issuer_is_none_of_our_business(
    issued: Issued,
) -> None:
    answer = await issued.ask(a_request(issued.issuing, issued.root))
    assert read(answer).response_status is UNAUTHORIZED
    assert answer.headers["Cache-Control"] == "no-store"


async def test_an_issuer_that_we_do_not_have_is_not_found(issued: Issued) -> None:
    answer = await issued.ask(a_request(issued.good, issued.issuing), "iss-none")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("safe", ["", "/", "/+="])
async def test_a_request_by_get_is_read_with_and_without_percent_encoding(
    issued: Issued, safe: str
) -> None:
    """RFC 6960 Appendix A.1 has the base64 percent-encoded; clients differ."""
    for nonce in (None, b"\xff\xfe\xfd" * 10):
        request = a_request(issued.good, issued.issuing, nonce=nonce)
        segment = quote(base64.b64encode(request), safe=safe)
        answer = await issued.http.get(f"http://certctl.test{PKI}/ocsp/iss-local/{segment}")
        assert read(answer).certificate_status is GOOD


def spellings(serial: int) -> list[str]:
    text = f"{serial:x}"
    pairs = text if len(text) % 2 == 0 else f"0{text}"
    colons = ":".join(pairs[i : i + 2] for i in range(0, len(pairs), 2))
    return [text, text.upper(), f"00{text}", colons, f"00:{colons.upper()}"]


async def test_a_serial_is_known_in_every_spelling_of_its_hex(issued: Issued) -> None:
    for text in spellings(issued.good.serial_number):
        answer = await issued.http.get(f"{PKI}/ocsp/iss-local/{text}")
        assert read(answer).certificate_status is GOOD, text


@pytest.mark.parametrize(
    "text", ["xyz", "-1", "0x1", "1" * 81, "1" * 41, "M", "MA", "Mzz$", "M%00"]
)
async def test_a_segment_that_is_neither_is_refused(issued: Issued, text: str) -> None:
    answer = await issued.http.get(f"{PKI}/ocsp/iss-local/{text}")
    if text.startswith("M"):  # as the base64 of every request does
        assert read(answer).response_status is MALFORMED
    else:
        assert answer.status_code == 400


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x30\x00", b"\x30" * 1000])
async def test_bytes_that_are_no_request_are_malformed(issued: Issued, content: bytes) -> None:
    answer = await issued.ask(content)
    assert read(answer).response_status is MALFORMED
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/ocsp-response"])
async def test_another_content_type_is_refused(issued: Issued, kind: str) -> None:
    request = a_request(issued.good, issued.issuing)
    headers = {"Content-Type": kind}
    answer = await issued.http.post(f"{PKI}/ocsp/iss-local", content=request, headers=headers)
    assert answer.status_code == 415


async def test_a_request_too_large_to_be_one_is_refused(issued: Issued) -> None:
    answer = await issued.ask(bytes(65_537))
    assert (answer.status_code, "65536" in answer.text) == (413, True)


@pytest.mark.parametrize("size", [1, 32, 128])
async def test_a_nonce_is_given_back_and_the_answer_is_not_kept(issued: Issued, size: int) -> None:
    """RFC 9654 §2.1: 1 to 128 octets."""
    nonce = b"n" * size
    answer = await issued.ask(a_request(issued.good, issued.issuing, nonce=nonce))
    told = read(answer)
    assert told.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers


@pytest.mark.parametrize("size", [0, 129])
async def test_a_nonce_of_another_size_is_malformed(issued: Issued, size: int) -> None:
    answer = await issued.ask(with_raw_nonce(issued, b"n" * size))
    assert read(answer).response_status is MALFORMED


async def test_an_answer_without_a_nonce_says_how_long_it_may_be_kept(issued: Issued) -> None:
    """RFC 5019 §6.2."""
    answer = await issued.ask(a_request(issued.good, issued.issuing))
    told = read(answer)
    assert told.next_update_utc is not None
    expires = parsedate_to_datetime(answer.headers["Expires"])
    modified = parsedate_to_datetime(answer.headers["Last-Modified"])
    assert (modified, expires) == (told.this_update_utc, told.next_update_utc)
    words = answer.headers["Cache-Control"].split(", ")
    assert {"public", "no-transform", "must-revalidate"} <= set(words)
    (age,) = [int(word.removeprefix("max-age=")) for word in words if word.startswith("max-age")]
    assert 0 < age <= (expires - datetime.now(UTC)).total_seconds()


async def test_the_crl_holds_what_is_revoked_and_is_signed_by_the_ca(issued: Issued) -> None:
    answer = await issued.http.get(f"{PKI}/crl/iss-local")
    assert answer.headers["Content-Type"] == "application/pkix-crl"
    crl = x509.load_der_x509_crl(answer.content)
    assert crl.is_signature_valid(issued.issuing.public_key())  # type: ignore[arg-type]
    assert [entry.serial_number for entry in crl] == [issued.revoked.serial_number]
    same = [await issued.http.get(f"{PKI}/crl/{name}") for name in (issued.ca_id, "iss-local.crl")]
    assert {each.content for each in same} == {answer.content}


async def test_a_ca_certificate_is_der(issued: Issued) -> None:
    answer = await issued.http.get(f"{PKI}/ca/{issued.ca_id}.cer")
    assert answer.headers["Content-Type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(answer.content) == issued.issuing


async def test_a_shard_is_served_at_the_address_in_its_leaves(issued: Issued) -> None:
    points = issued.sharded.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = points[0].full_name or ()
    path = urlsplit(name.value).path
    answer = await issued.http.get(path)
    assert answer.headers["Content-Type"] == "application/pkix-crl"
    crl = x509.load_der_x509_crl(answer.content)
    assert crl.is_signature_valid(issued.issuing.public_key())  # type: ignore[arg-type]
    point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert (point.critical, point.value.full_name) == (True, [name])
    same = await issued.http.get(f"{PKI}/crl/iss-local/{path.rpartition('/')[2]}.crl")
    assert same.content == answer.content


@pytest.mark.parametrize("what", ["crl/iss-local", "crl/iss-local/1", "ca/{ca_id}.cer"])
async def test_who_has_the_present_content_is_spared_it(issued: Issued, what: str) -> None:
    """RFC 9110 §13.1.2."""
    path = f"{PKI}/{what.format(ca_id=issued.ca_id)}"
    first = await issued.http.get(path)
    for known in (first.headers["ETag"], f'"old", W/{first.headers["ETag"]}', "*"):
        again = await issued.http.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
    other = await issued.http.get(path, headers={"If-None-Match": '"old"'})
    assert other.content == first.content


@pytest.mark.parametrize(
    "path",
    [
        "crl/none",
        "crl/..",
        "crl/%00",
        "crl/iss-local/2",
        "crl/iss-local/0",
        "crl/iss-local/01",
        "crl/iss-local/x",
        "crl/iss-local/1/1",
        "crl/iss-local/99999",
        "crl/",
        "ca/none.cer",
        "ca/none",
        "ocsp/none/1",
        "",
        "ocsp",
    ],
)
async def test_what_we_do_not_have_is_not_found(issued: Issued, path: str) -> None:
    answer = await issued.http.get(f"{PKI}/{path}")
    # What is not under the face's own paths is behind the gate, where there is one.
    assert answer.status_code in ((400,) if "%00" in path else (404, 401))
    assert len(answer.text) < 200


@pytest.mark.parametrize(("method", "path"), [("DELETE", "crl/iss-local"), ("PUT", "ocsp/x")])
async def test_a_wrong_method_is_told_which_are_right(
    issued: Issued, method: str, path: str
) -> None:
    answer = await issued.http.request(method, f"{PKI}/{path}")
    assert answer.status_code == 405
    assert answer.headers["Allow"]
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_both_listeners_answer_alike(made: Issued) -> None:
    async with relying(made.site.world.platform) as http:
        for path in (
            f"{PKI}/crl/iss-local",
            f"{PKI}/crl/iss-local/1",
            f"{PKI}/ca/{made.ca_id}.cer",
        ):
            plain, tls = await http.get(path), await made.http.get(path)
            assert plain.content == tls.content
