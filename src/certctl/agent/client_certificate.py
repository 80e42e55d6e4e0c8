"""The agent's client certificate: instead of its bearer credential, where it is told to use one."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from certctl.agent.link import Link
from certctl.agent.state import State
from certctl.agent.trust import tls_to
from certctl.domain.errors import CertctlError
from certctl.pki import keys
from certctl.pki.x509 import CertificateFacts, ders_of_pem, facts, make_csr
from certctl.wire import ClientCertificateWish

BEGIN: Final = "-----BEGIN CERTIFICATE-----"
log = logging.getLogger("certctl.agent")


def usable(state: State) -> Path | None:
    """The key and certificate that are kept, unless they are over."""
    kept = _kept(state)
    return state.client_pair if kept and kept.not_after > datetime.now(UTC) else None


async def keep_current(state: State, link: Link, ca_file: Path | None) -> None:
    """Get one, or another when two thirds of its life are over; the link presents it from then
    on. Errors as `Link`'s."""
    kept = _kept(state)
    if kept and datetime.now(UTC) < kept.not_before + (kept.not_after - kept.not_before) * 2 / 3:
        return
    key = keys.generate(keys.KeyAlgorithm.ECDSA_P256)
    wish = ClientCertificateWish(csr_pem=make_csr(key, (), link.agent_id))
    made = await link.client_certificate(wish)
    state.keep_client_pair(keys.to_pem(key) + made.certificate_pem)
    await link.present(tls_to(ca_file, state.client_pair))
    log.info("event=client_certificate_kept not_after=%s", made.not_after.isoformat())


def _kept(state: State) -> CertificateFacts | None:
    try:
        _, begin, chain = state.client_pair.read_text().partition(BEGIN)
        return facts(ders_of_pem(begin + chain)[0])
    except (OSError, UnicodeDecodeError, CertctlError):
        return None
