"""The signed webhook: events as JSON, posted to one URL."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator

from certctl.connectors import http, notifier
from certctl.connectors.notifier import Event
from certctl.connectors.reach import Reach
from certctl.domain.errors import Invalid

MOST: Final = 65_536  # bytes of an answer that nobody reads


class Webhook:
    """Posts with `X-Certctl-Timestamp` (Unix seconds) and `X-Certctl-Signature`: `sha256=` and the
    hex HMAC-SHA256 of `timestamp.body` under the secret that both sides know."""

    kind: ClassVar[str] = "Webhook"

    class Config(notifier.Config):
        url: SecretStr = Field(description="http(s) URL that events are posted to")
        secret: SecretStr = Field(
            min_length=16, description="Secret of the signature, 16 characters or more"
        )

        @field_validator("url")
        @classmethod
        def _reachable(cls, value: SecretStr) -> SecretStr:
            text = value.get_secret_value()
            try:
                parts = urlsplit(text)
                fits = parts.scheme in {"http", "https"} and bool(parts.hostname)
                _ = parts.port
            except ValueError:
                fits = False
            if not fits or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("must be an http:// or https:// URL")
            return value

    def __init__(self, config: Config, reach: Reach) -> None:
        self._url = config.url.get_secret_value()
        self._secret = config.secret.get_secret_value().encode()
        self._reach = reach
        self._trust = ssl.create_default_context()

    @classmethod
    def open(cls, config: Mapping[str, Any], reach: Reach) -> Self:
        """Raises Invalid naming the field of `config` that is wrong."""
        try:
            return cls(cls.Config.model_validate(config), reach)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            text = first["msg"].removeprefix("Value error, ")
            raise Invalid(f"{name}: {text}", field=name) from None

    @property
    def recipient(self) -> str:
        return http.place(self._url)

    async def send(self, event: Event) -> None:
        fields = asdict(event) | {"created_at": event.created_at.isoformat()}
        body = json.dumps(fields).encode()
        stamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Certctl-Timestamp": stamp,
            "X-Certctl-Signature": f"sha256={self._signature(stamp, body)}",
        }
        async with http.client(self._reach, verify=self._trust) as through:
            answer = await http.ask(
                through, "POST", self._url, content=body, headers=headers, most=MOST
            )
        http.accepted(answer, self._url)

    def _signature(self, stamp: str, body: bytes) -> str:
        return hmac.new(self._secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
