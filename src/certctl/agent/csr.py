"""Certificate requests: the names of a work item and a key of this host."""

from __future__ import annotations

from certctl.domain.names import parse_names
from certctl.pki.keys import PrivateKey
from certctl.pki.x509 import make_csr
from certctl.wire import WorkItem


def request_pem(item: WorkItem, key: PrivateKey) -> str:
    """A request for the names of `item`.

    Raises:
        Invalid: for a name that cannot stand in a certificate.
    """
    names = parse_names(item.sans)
    return make_csr(key, names, item.common_name, must_staple=item.must_staple)
