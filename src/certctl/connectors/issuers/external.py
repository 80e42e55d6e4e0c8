"""The CA that is elsewhere: it stands for whoever issued a certificate that was imported."""

from __future__ import annotations

from typing import ClassVar

from certctl.connectors import issuer
from certctl.connectors.issuer import Issued, Order
from certctl.domain.errors import Refused


class External:
    kind: ClassVar[str] = "External"

    class Config(issuer.Config):
        """Nothing is configured: nobody is asked."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def check(self) -> None:
        raise _refusal()

    async def issue(self, order: Order) -> Issued:
        raise _refusal()


def _refusal() -> Refused:
    return Refused(
        "this issuer stands for a CA that certctl does not reach; give the certificate another "
        "issuer, and certctl renews it there"
    )
