"""The notifier port: one channel over which people are told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What a notifier is told; each field's description is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Event:
    """What is to be told. The id stays the same when it is sent again."""

    id: str
    type: str
    severity: str
    certificate_id: str | None
    message: str
    created_at: datetime


class Notifier(Protocol):
    kind: ClassVar[str]
    Config: ClassVar[type[Any]]

    @property
    def recipient(self) -> str:
        """Whom it reaches, in words that may be shown."""

    async def send(self, event: Event) -> None:
        """Hand the event over.

        Raises:
            Unavailable: when the receiver did not take it in time.
            Refused: when it said no, or is at an address that may not be called.
        """
