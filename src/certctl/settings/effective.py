"""Settings as they are in force, for people to read; of a secret it is only told that it is set."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic import SecretStr

from certctl.settings import Settings, duration_text, variable
from certctl.settings.forms import NamedKey

# Fields, by how their names begin, that decide who comes in and how much they may ask.
SIGN_IN: Final = (
    "api_keys_named", "auth_", "bootstrap_", "breakglass_", "cors_", "oidc_", "rate_limit_",
    "session_", "trusted_proxies", "user_",
)  # fmt: skip
HIDDEN: Final = "***"


def sign_in_settings(settings: Settings) -> dict[str, str]:
    """What the settings of signing in are, by variable, written as an operator writes them."""
    return {
        variable(field): _written(getattr(settings, field))
        for field in Settings.model_fields
        if field.startswith(SIGN_IN)
    }


def _written(value: Any) -> str:
    match value:
        case SecretStr():
            return HIDDEN if len(value) else ""
        case NamedKey():
            return f"{value.name}:{HIDDEN}{':admin' if value.admin else ''}"
        case bool():
            return str(value).lower()
        case timedelta():
            return duration_text(value)
        case tuple():
            return ",".join(map(_written, value))
        case _:
            return str(value)
