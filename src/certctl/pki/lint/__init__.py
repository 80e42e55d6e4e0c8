"""The checks before every signature, and the only maker of `Linted`."""

from certctl.pki.lint.checks import (
    Linted,
    check_certificate,
    check_crl,
    check_ocsp,
    ocsp_response,
)
from certctl.pki.lint.judge import pkilint_findings
from certctl.pki.lint.waivable import why_never

__all__ = [
    "Linted",
    "check_certificate",
    "check_crl",
    "check_ocsp",
    "ocsp_response",
    "pkilint_findings",
    "why_never",
]
