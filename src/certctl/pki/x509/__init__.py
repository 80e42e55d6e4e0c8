"""X.509: certificates and requests to facts, templates to drafts, linted drafts to certificates."""

from certctl.pki.x509.armour import chain_pem, ders_of_pem, pem
from certctl.pki.x509.csr import CsrFacts, check_csr_names, read_csr, read_csr_der
from certctl.pki.x509.drafting import draft, issuer_key_identifier
from certctl.pki.x509.reading import CertificateFacts, facts
from certctl.pki.x509.request import make_ca_csr, make_csr
from certctl.pki.x509.signing import sign, signature
from certctl.pki.x509.template import Template, validity

__all__ = [
    "CertificateFacts",
    "CsrFacts",
    "Template",
    "chain_pem",
    "check_csr_names",
    "ders_of_pem",
    "draft",
    "facts",
    "issuer_key_identifier",
    "make_ca_csr",
    "make_csr",
    "pem",
    "read_csr",
    "read_csr_der",
    "sign",
    "signature",
    "validity",
]
