"""Resolvers that answer as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from certctl.connectors.reach import Reach


class Resolver:
    """Gives these answers in turn, the last one again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def reach(*answer: str, allowed: Sequence[str] = (), block_private: bool = False) -> Reach:
    """With a resolver that answers so."""
    networks = tuple(map(ip_network, allowed))
    return Reach(networks, block_private, resolve=Resolver(answer))
