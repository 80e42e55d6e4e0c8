"""Revocation status as a standard client sees it: `openssl ocsp` and `openssl verify` judge."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as cocsp

from certctl.domain.errors import NotFound
from certctl.domain.revocation import CODES, Reason
from certctl.pki import x509
from certctl.services import authority, crls, revoke, status
from certctl.services.status import Responder
from tests import kit
from tests.conftest import World
from tests.tools import need


@dataclass(frozen=True)
class Files:
    """What a relying party has on disk."""

    folder: Path
    issuing_id: str
    root_id: str

    def write(self, name: str, *ders: bytes) -> Path:
        path = self.folder / name
        path.write_text("".join(map(x509.pem, ders)))
        return path


@pytest.fixture
async def files(world: World, tmp_path: Path) -> Files:
    issuing = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NOT NULL")
    root = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NULL")
    found = Files(tmp_path, issuing, root)
    found.write("issuing.pem", await authority.certificate(world.platform, issuing))
    found.write("root.pem", await authority.certificate(world.platform, root))
    return found


def openssl(*arguments: str | Path) -> str:
    """Both streams of the program."""
    command = [need("openssl"), *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    )
    return done.stdout


async def judged(
    world: World, files: Files, question: list[str | Path], *, ca: str, address: str
) -> str:
    """What openssl says of our answer to a question of its own, nonce included."""
    asked, answered = files.folder / "request.der", files.folder / "response.der"
    openssl("ocsp", "-issuer", files.folder / f"{ca}.pem", *question, "-reqout", asked)
    answer = await Responder(world.platform).answer(address, asked.read_bytes())
    answered.write_bytes(answer.der)
    return openssl(
        "ocsp",
        *("-no_nonce", "-respin", answered, "-reqin", asked, "-issuer", files.folder / f"{ca}.pem"),
        *("-CAfile", files.folder / "root.pem", *question),
        *("-verify_other", files.folder / "issuing.pem"),
    )


async def leaf(world: World, files: Files, certificate_id: str) -> Path:
    (version,) = await kit.versions_of(world, certificate_id)
    return files.write("leaf.pem", x509.ders_of_pem(version["pem_chain"])[0])


@pytest.mark.parametrize("by_issuer_id", [True, False])
async def test_openssl_hears_good_and_after_the_revocation_revoked(
    world: World, files: Files, by_issuer_id: bool
) -> None:
    row = await kit.an_issued_certificate(world)
    address = "iss-local" if by_issuer_id else files.issuing_id
    question: list[str | Path] = ["-cert", await leaf(world, files, row["id"])]
    before = await judged(world, files, question, ca="issuing", address=address)
    assert "Response verify OK" in before
    assert "leaf.pem: good" in before
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.KEY_COMPROMISE)
    after = await judged(world, files, question, ca="issuing", address=address)
    assert "Response verify OK" in after
    assert "leaf.pem: revoked" in after
    assert "Reason: keyCompromise" in after


async def test_openssl_hears_good_of_the_issuing_ca_from_its_root(
    world: World, files: Files
) -> None:
    question: list[str | Path] = ["-cert", files.folder / "issuing.pem"]
    heard = await judged(world, files, question, ca="root", address=files.root_id)
    assert "Response verify OK" in heard
    assert "issuing.pem: good" in heard


async def test_openssl_hears_good_of_a_responders_own_certificate(
    world: World, files: Files
) -> None:
    held = await status.responder(world.platform, files.issuing_id)
    question: list[str | Path] = ["-cert", files.write("responder.pem", held.cert_der)]
    heard = await judged(world, files, question, ca="issuing", address=files.issuing_id)
    assert "responder.pem: good" in heard


async def test_openssl_hears_unknown_of_a_serial_that_was_never_issued(
    world: World, files: Files
) -> None:
    question: list[str | Path] = ["-serial", "0x1234"]
    heard = await judged(world, files, question, ca="issuing", address=files.issuing_id)
    assert "Response verify OK" in heard
    assert "0x1234: unknown" in heard


async def test_a_short_serial_is_found_in_every_spelling(world: World, files: Files) -> None:
    await kit.an_issued_certificate(world)
    await kit.change(world, "UPDATE issuances SET serial_number = 'abc' WHERE purpose = 'leaf'")
    responder = Responder(world.platform)
    for spelling in ("abc", "ABC", "0abc", "0" * 37 + "abc", "0a:bc"):
        answer = await responder.answer_serial("iss-local", spelling)
        heard = cocsp.load_der_ocsp_response(answer.der)
        assert heard.certificate_status is cocsp.OCSPCertStatus.GOOD
    question: list[str | Path] = ["-serial", "0xabc"]
    told = await judged(world, files, question, ca="issuing", address="iss-local")
    assert "0xabc: good" in told


async def test_a_serial_that_was_intended_and_never_signed_is_unknown(
    world: World, files: Files
) -> None:
    row = await kit.an_issued_certificate(world)
    question: list[str | Path] = ["-cert", await leaf(world, files, row["id"])]
    await kit.change(
        world, "UPDATE issuances SET state = 'closed' WHERE purpose = 'leaf' AND state = 'issued'"
    )
    heard = await judged(world, files, question, ca="issuing", address=files.issuing_id)
    assert "leaf.pem: unknown" in heard


async def test_openssl_refuses_a_revoked_certificate_by_our_crl_and_takes_a_good_one(
    world: World, files: Files
) -> None:
    row = await kit.an_issued_certificate(world)
    path = await leaf(world, files, row["id"])

    async def verified() -> str:
        crl = files.folder / "issuing.crl"
        der = (await crls.present(world.platform, "iss-local")).der
        crl.write_text(cx509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode())
        return openssl(
            "verify",
            *("-crl_check", "-CRLfile", crl, "-CAfile", files.folder / "root.pem"),
            *("-untrusted", files.folder / "issuing.pem", path),
        )

    assert "leaf.pem: OK" in await verified()
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.SUPERSEDED)
    assert "certificate revoked" in await verified()


async def test_the_revocation_itself_has_the_crl_made_anew(world: World, files: Files) -> None:
    row = await kit.an_issued_certificate(world)
    first = await crls.present(world.platform, files.issuing_id)
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.CESSATION_OF_OPERATION)
    await world.run_tasks()
    kept = await kit.rows(
        world, "SELECT der, number FROM crls WHERE authority_id = %(id)s", id=files.issuing_id
    )
    crl = cx509.load_der_x509_crl(kept[0]["der"])
    number = cx509.load_der_x509_crl(first.der).extensions.get_extension_for_class(cx509.CRLNumber)
    assert kept[0]["number"] > number.value.crl_number
    (version,) = await kit.versions_of(world, row["id"])
    entry = crl.get_revoked_certificate_by_serial_number(int(version["serial_number"], 16))
    assert entry is not None


async def test_a_crl_that_is_fresh_is_served_as_it_is(world: World, files: Files) -> None:
    first = await crls.present(world.platform, files.issuing_id)
    second = await crls.present(world.platform, "iss-local")
    assert first.der == second.der


async def test_a_crl_near_its_end_is_made_anew(world: World, files: Files) -> None:
    first = await crls.present(world.platform, files.issuing_id)
    await kit.change(world, "UPDATE crls SET next_update = now() + interval '1 hour'")
    second = await crls.present(world.platform, files.issuing_id)
    assert first.der != second.der


async def test_a_ca_that_is_not_ours_has_no_crl_and_no_responder(world: World) -> None:
    with pytest.raises(NotFound, match="neither an issuer nor a CA"):
        await crls.present(world.platform, "iss-other")
    with pytest.raises(NotFound, match="neither an issuer nor a CA"):
        await Responder(world.platform).answer_serial("iss-other", "1")


async def test_a_question_about_another_ca_is_not_answered(world: World, files: Files) -> None:
    asked = files.folder / "request.der"
    openssl("ocsp", "-issuer", files.folder / "root.pem", "-serial", "1", "-reqout", asked)
    answer = await Responder(world.platform).answer(files.issuing_id, asked.read_bytes())
    assert answer.der == bytes.fromhex("30030a0106")


@pytest.mark.parametrize("reason", Reason)
async def test_every_reason_is_told_by_its_code(world: World, reason: Reason) -> None:
    row = await kit.an_issued_certificate(world)
    (version,) = await kit.versions_of(world, row["id"])
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=reason)
    answer = await Responder(world.platform).answer_serial("iss-local", version["serial_number"])
    told = cocsp.load_der_ocsp_response(answer.der).revocation_reason
    codes = {flag: code for code, flag in enumerate(FLAGS)}
    assert (0 if told is None else codes[told]) == CODES[reason]


FLAGS = (
    cx509.ReasonFlags.unspecified,
    cx509.ReasonFlags.key_compromise,
    cx509.ReasonFlags.ca_compromise,
    cx509.ReasonFlags.affiliation_changed,
    cx509.ReasonFlags.superseded,
    cx509.ReasonFlags.cessation_of_operation,
    cx509.ReasonFlags.certificate_hold,
    None,
    cx509.ReasonFlags.remove_from_crl,
    cx509.ReasonFlags.privilege_withdrawn,
)
