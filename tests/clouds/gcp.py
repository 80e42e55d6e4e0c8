"""Google Cloud KMS, as far as certctl asks it: its REST API, with numbers for names as the library
sends them, and its errors."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.cloud.kms_v1.types import CryptoKey, CryptoKeyVersion, ProtectionLevel, PublicKey

from certctl.connectors.signers.gcp_kms import ALGORITHMS, GcpKms, crc32c
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm, PrivateKey
from tests.clouds.server import Asked, Json, Said, Server, signature
from tests.pki.made import a_key

RING = "projects/pki/locations/europe-west3/keyRings/certctl"
SECRET = "what Google tells its customers alone"
KINDS = {name: algorithm for algorithm, name in ALGORITHMS.items()}


def refusal(status: str, code: int) -> Said:
    return Said({"error": {"code": code, "message": SECRET, "status": status}}, code)


class Gcp(Server):
    """`pending` is how many times a new version is still being generated; `damaged` spoils the
    signature on its way, but not its checksum."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, PrivateKey] = {}
        self.algorithms: dict[str, str] = {}
        self.pending = 0
        self.damaged = False

    def open(self, timeout: timedelta = timedelta(seconds=10)) -> GcpKms:
        return GcpKms(RING, protection="SOFTWARE", endpoint=self.url, timeout=timeout)

    def answer(self, asked: Asked) -> Said:
        if not asked.headers.get("Authorization", "").startswith("Bearer ey"):
            return refusal("UNAUTHENTICATED", 401)
        url = urlsplit(asked.path)
        if url.path == f"/v1/{RING}/cryptoKeys" and asked.method == "POST":
            return self._create(parse_qs(url.query)["cryptoKeyId"][0], asked.body)
        found = re.fullmatch(f"/v1/({RING}/cryptoKeys/([^/]+)/cryptoKeyVersions/1)(.*)", url.path)
        if found is None or found[2] not in self.keys:
            return refusal("NOT_FOUND", 404)
        name, key_id, verb = found.groups()
        if verb == ":asymmetricSign":
            return self._sign(name, key_id, asked.body)
        if verb == "/publicKey":
            return self._public_key(key_id, parse_qs(url.query)["publicKeyFormat"][0])
        self.pending -= self.pending > 0
        state = "PENDING_GENERATION" if self.pending else "ENABLED"
        return Said({"name": name, "state": state, "algorithm": self.algorithms[key_id]})

    def _create(self, key_id: str, body: Json) -> Said:
        if key_id in self.keys:
            return refusal("ALREADY_EXISTS", 409)
        template = body["versionTemplate"]
        level = ProtectionLevel(template["protectionLevel"])
        purpose = CryptoKey.CryptoKeyPurpose(body["purpose"])
        if (purpose.name, level.name) != ("ASYMMETRIC_SIGN", "SOFTWARE"):
            return refusal("INVALID_ARGUMENT", 400)
        self.algorithms[key_id] = CryptoKeyVersion.CryptoKeyVersionAlgorithm(
            template["algorithm"]
        ).name
        self.keys[key_id] = keys.generate(KINDS[self.algorithms[key_id]])
        return Said({"name": f"{RING}/cryptoKeys/{key_id}", "purpose": "ASYMMETRIC_SIGN"})

    def _public_key(self, key_id: str, form: str) -> Said:
        public = self.keys[key_id].public_key()
        form = PublicKey.PublicKeyFormat(int(form)).name
        if (form == "NIST_PQC") != ("ML_DSA" in self.algorithms[key_id]):
            return refusal("INVALID_ARGUMENT", 400)
        data = (
            public.public_bytes(Encoding.Raw, PublicFormat.Raw)
            if form == "NIST_PQC"
            else public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        checked = {"data": base64.b64encode(data).decode(), "crc32cChecksum": str(crc32c(data))}
        return Said({"publicKey": checked, "publicKeyFormat": form})

    def _sign(self, name: str, key_id: str, body: Json) -> Said:
        ((kind, text),) = body["digest"].items()
        digest = base64.b64decode(text)
        wanted = {"P384": "sha384", "L_MU": "externalMu"}.get(_kind(self.algorithms[key_id]))
        if kind != (wanted or "sha256") or int(body["digestCrc32c"]) != crc32c(digest):
            return refusal("INVALID_ARGUMENT", 400)
        signed = signature(self.keys[key_id], digest)
        sent = signed[:-1] + bytes([signed[-1] ^ self.damaged])
        return Said(
            {
                "signature": base64.b64encode(sent).decode(),
                "signatureCrc32c": str(crc32c(signed)),
                "verifiedDigestCrc32c": True,
                "name": name,
            }
        )


def _kind(algorithm: str) -> str:
    return "P384" if "P384" in algorithm else algorithm[-4:]


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcp]:
    server = Gcp()
    account = tmp_path_factory.mktemp("gcp") / "account.json"
    write_account(account, token_uri=f"{server.url}/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    yield server
    server.close()


def write_account(path: Path, *, token_uri: str) -> None:
    """The file of a service account, whose key signs a token for each caller."""
    account = {
        "type": "service_account",
        "project_id": "pki",
        "client_email": "certctl@pki.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": keys.to_pem(a_key(KeyAlgorithm.RSA_2048)),
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(account))
