"""The lines with which a person repeats each step while the demonstration stays up."""

from __future__ import annotations

import shlex
from pathlib import Path

from cryptography import x509

from certctl.cli.demo import proof
from certctl.cli.demo.place import LOOPBACK, Place
from certctl.cli.demo.web import NAME


def lines(place: Place) -> list[tuple[str, str]]:
    """Pairs of what a line shows and the line itself, ready for a shell."""
    kept = place.proofs
    served, revoked = kept / "served.pem", kept / "revoked.pem"
    ca, issuer, crl = map(_quoted, (place.ca_file, kept / "issuer.pem", kept / "crl.pem"))
    leaf = x509.load_pem_x509_certificate(served.read_bytes())
    connect = f"-connect {LOOPBACK}:{place.tls_port} -servername {NAME}"
    ask = (
        f"openssl ocsp -issuer {issuer} -verify_other {issuer} -CAfile {ca} "
        f"-url {_quoted(proof.ocsp_url(leaf))}"
    )
    check = f"openssl verify -crl_check -CAfile {ca} -untrusted {issuer} -CRLfile {crl}"
    resolve = f"--resolve {NAME}:{place.tls_port}:{LOOPBACK}"
    return [
        (
            "what the web server serves, verified",
            f"openssl s_client {connect} -CAfile {ca} -verify_return_error -brief </dev/null",
        ),
        (
            "its serial and fingerprint",
            f"openssl s_client {connect} </dev/null 2>/dev/null "
            "| openssl x509 -noout -serial -fingerprint -sha256",
        ),
        (
            "the same as a browser sees it",
            f"curl --cacert {ca} {resolve} https://{NAME}:{place.tls_port}/",
        ),
        ("OCSP about the served certificate: good", f"{ask} -cert {_quoted(served)}"),
        ("OCSP about the revoked one: revoked", f"{ask} -cert {_quoted(revoked)}"),
        (
            "fetch the CRL",
            f"curl -sf {_quoted(proof.crl_url(leaf))} | openssl crl -inform DER -out {crl}",
        ),
        ("what it holds", f"openssl crl -in {crl} -noout -text"),
        ("the served certificate against it: OK", f"{check} {_quoted(served)}"),
        ("the revoked one against it: certificate revoked", f"{check} {_quoted(revoked)}"),
        ("the API", _api_line(place, ca)),
    ]


def _api_line(place: Place, ca: str) -> str:
    bearer = f'-H "Authorization: Bearer $(cat {_quoted(place.key_file)})"'
    return f"curl -sf --cacert {ca} {bearer} {place.server_url}/api/v1/certificates"


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))
