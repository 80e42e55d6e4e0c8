"""AWS KMS, as far as certctl asks it: the JSON protocol and its errors."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from datetime import timedelta

import pytest

from certctl.connectors.signers.aws_kms import SPECS, AwsKms
from certctl.pki import keys
from certctl.pki.keys import PrivateKey
from tests.clouds.server import Asked, Json, Said, Server, signature

SECRET = "a secret access key that nobody may read"
ALGORITHMS = {spec: algorithm for algorithm, spec in SPECS.items()}


def refusal(kind: str, status: int = 400) -> Said:
    return Said({"__type": kind, "message": f"{SECRET}: as KMS puts it"}, status)


class Aws(Server):
    """Of a key that is in `states` only that refusal is heard."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, PrivateKey] = {}
        self.aliases: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.hidden = 0  # how many times a new alias is not seen yet
        self._ids = itertools.count()

    def open(self, timeout: timedelta = timedelta(seconds=10)) -> AwsKms:
        return AwsKms("eu-central-1", endpoint=self.url, alias_prefix="certctl/", timeout=timeout)

    def answer(self, asked: Asked) -> Said:
        if "AWS4-HMAC-SHA256 Credential=AKIDTESTS/" not in asked.headers.get("Authorization", ""):
            return refusal("UnrecognizedClientException")
        action = asked.headers["X-Amz-Target"].removeprefix("TrentService.")
        if action == "CreateKey":
            return self._create(asked.body)
        if action == "CreateAlias":
            return self._alias(asked.body)
        key_id = self.aliases.get(asked.body["KeyId"], "")
        if key_id not in self.keys or self._is_hidden():
            return refusal("NotFoundException")
        if key_id in self.states:
            return refusal(self.states[key_id])
        if action == "GetPublicKey":
            public = keys.spki(self.keys[key_id].public_key())
            return Said({"KeyId": key_id, "PublicKey": base64.b64encode(public).decode()})
        return self._sign(key_id, asked.body)

    def _is_hidden(self) -> bool:
        self.hidden -= self.hidden > 0
        return self.hidden > 0

    def _create(self, body: Json) -> Said:
        assert body["KeyUsage"] == "SIGN_VERIFY"
        key_id = f"key-{next(self._ids)}"
        self.keys[key_id] = keys.generate(ALGORITHMS[body["KeySpec"]])
        return Said({"KeyMetadata": {"KeyId": key_id}})

    def _alias(self, body: Json) -> Said:
        if body["AliasName"] in self.aliases:
            return refusal("AlreadyExistsException")
        self.aliases[body["AliasName"]] = body["TargetKeyId"]
        return Said({})

    def _sign(self, key_id: str, body: Json) -> Said:
        facts = keys.key_facts(self.keys[key_id].public_key())
        wanted = {
            "RSA": ("DIGEST", "RSASSA_PKCS1_V1_5_SHA_256"),
            "ECDSA": ("DIGEST", f"ECDSA_SHA_{facts.size}"),
            "ML-DSA": ("EXTERNAL_MU", "ML_DSA_SHAKE_256"),
        }[facts.algorithm]
        if (body["MessageType"], body["SigningAlgorithm"]) != wanted:
            return refusal("ValidationException")
        signed = signature(self.keys[key_id], base64.b64decode(body["Message"]))
        return Said({"KeyId": key_id, "Signature": base64.b64encode(signed).decode()})


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    nothing = tmp_path_factory.mktemp("aws") / "none"
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(nothing))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    server = Aws()
    yield server
    server.close()
