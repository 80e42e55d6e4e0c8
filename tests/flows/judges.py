"""OpenSSL, GnuTLS and curl as relying parties: what they say of what we serve."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.flows.system import Json, System, until
from tests.tools import need

END = "-----END CERTIFICATE-----\n"


def run(*command: str | Path, ok: bool = True, stdin: bytes = b"") -> str:
    """Both streams of a program that must succeed, or, with `ok` False, must fail."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, timeout=60
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert (done.returncode == 0) is ok, text
    return text


@dataclass(frozen=True)
class RelyingParty:
    """Somebody who holds the root and meets a certificate of ours."""

    system: System
    folder: Path
    leaf: Path
    issuer: Path
    authority_id: str

    @property
    def root(self) -> Path:
        return self.system.data / "ca.pem"

    def pki(self, path: str) -> str:
        return f"http://127.0.0.1:{self.system.http}/.well-known/pki/{path}"

    def ocsp(self) -> str:
        """The status by POST, with the nonce that openssl sends and checks."""
        return self._status(
            run(need("openssl"), "ocsp", "-issuer", self.issuer, "-cert", self.leaf, "-url",
                self.pki(f"ocsp/{self.authority_id}"), "-CAfile", self.root)
        )  # fmt: skip

    def ocsp_by_get(self) -> str:
        """The status by GET: the request that openssl writes, through curl, read back."""
        request, response = self.folder / "request.der", self.folder / "response.der"
        run(need("openssl"), "ocsp", "-issuer", self.issuer, "-cert", self.leaf, "-no_nonce",
            "-reqout", request)  # fmt: skip
        encoded = run(need("openssl"), "base64", "-A", "-in", request)
        escaped = encoded.strip().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        run(need("curl"), "-sf", "-o", response, self.pki(f"ocsp/{self.authority_id}/{escaped}"))
        return self._status(
            run(need("openssl"), "ocsp", "-issuer", self.issuer, "-cert", self.leaf, "-no_nonce",
                "-respin", response, "-CAfile", self.root)
        )  # fmt: skip

    def ocsp_by_gnutls(self) -> str:
        """The status by POST, as GnuTLS asks; it goes no further up than to the issuer."""
        text = run(need("ocsptool"), f"--ask={self.pki(f'ocsp/{self.authority_id}')}",
                   "--load-cert", self.leaf, "--load-issuer", self.issuer,
                   "--load-trust", self.issuer)  # fmt: skip
        assert "Verifying OCSP Response: Success." in text, text
        return text.split("Certificate Status: ")[1].split("\n")[0]

    def verify(self, *, ok: bool) -> str:
        """What `openssl verify -crl_check` says with the CRL of this moment."""
        der, pem = self.folder / "now.crl", self.folder / "now.crl.pem"
        run(need("curl"), "-sf", "-o", der, self.pki(f"crl/{self.authority_id}"))
        run(need("openssl"), "crl", "-inform", "DER", "-in", der, "-out", pem)
        return run(need("openssl"), "verify", "-crl_check", "-CAfile", self.root, "-untrusted",
                   self.issuer, "-CRLfile", pem, self.leaf, ok=ok)  # fmt: skip

    def refused(self) -> str:
        """What it says once the CRL has followed, within seconds."""

        def said() -> str:
            try:
                return self.verify(ok=False)
            except AssertionError:
                return ""

        return str(until("the CRL to follow", said, seconds=10))

    def _status(self, text: str) -> str:
        assert "Response verify OK" in text, text
        return text.split(f"{self.leaf}: ")[1].split("\n")[0]


def relying_party(system: System, version: Json) -> RelyingParty:
    """One who was shown the chain of `version`."""
    folder = system.folder / version["id"]
    folder.mkdir(exist_ok=True)
    leaf, issuer = version["pem_chain"].split(END)[:2]
    (folder / "leaf.pem").write_text(leaf + END)
    (folder / "issuer.pem").write_text(issuer + END)
    return RelyingParty(
        system, folder, folder / "leaf.pem", folder / "issuer.pem", version["authority_id"]
    )
