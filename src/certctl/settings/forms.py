"""The forms that values of settings are written in: durations, networks, keys, origins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

PLACEHOLDERS = frozenset({"change-me-in-production", "change-me-32-char-encryption-key"})
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(value: Any) -> Any:
    """`30s`, `5m`, `1h30m`, `7d` as a timedelta; a bare number is refused."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value)
    if not parts or "".join(n + u for n, u in parts) != value:
        raise ValueError("write a duration such as 30s, 5m, 24h or 7d")
    try:
        return timedelta(seconds=sum(float(n) * UNITS[u] for n, u in parts))
    except OverflowError:
        raise ValueError("is too long a time") from None


def yes_or_no(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in known:
        raise ValueError("write true or false")
    return known[value.lower()]


Duration = Annotated[timedelta, BeforeValidator(duration)]
Flag = Annotated[bool, BeforeValidator(yes_or_no)]
Port = Annotated[int, Field(ge=1, le=65535)]


@dataclass(frozen=True)
class NamedKey:
    """One entry of CERTCTL_API_KEYS_NAMED."""

    name: str
    key: SecretStr
    admin: bool


def named_keys(value: Any) -> Any:
    """`name:key[:admin]`, comma-separated; a name given twice is a rotation in progress."""
    if not isinstance(value, str):
        return value
    keys: list[NamedKey] = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        name, _, rest = entry.partition(":")
        key, _, flag = rest.partition(":")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or not key or flag not in {"", "admin"}:
            raise ValueError(f"entry {len(keys) + 1} is not name:key or name:key:admin")
        if len(key) < 16:
            raise ValueError(f"the key of {name} is shorter than 16 characters")
        keys.append(NamedKey(name, SecretStr(key), flag == "admin"))
    if len({each.key.get_secret_value() for each in keys}) < len(keys):
        raise ValueError("two entries have the same key")
    flags = {name: {k.admin for k in keys if k.name == name} for name in {k.name for k in keys}}
    for name, admin in flags.items():
        if len(admin) > 1:
            raise ValueError(f"the keys of {name} disagree about admin")
    return tuple(keys)


def networks(value: Any) -> Any:
    """Addresses and networks in CIDR form, comma-separated."""
    if not isinstance(value, str):
        return value
    found: list[IPv4Network | IPv6Network] = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        try:
            found.append(ip_network(entry))
        except ValueError:
            raise ValueError(
                f"{entry!r} is not an address or a network such as 10.1.0.0/16"
            ) from None
    return tuple(found)


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(networks)]


def origins(value: Any) -> Any:
    """Origins as a browser writes them, comma-separated, or `*`."""
    if not isinstance(value, str):
        return value
    found = tuple(filter(None, (part.strip() for part in value.split(","))))
    for origin in found:
        if origin != "*" and not re.fullmatch(
            r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", origin
        ):
            raise ValueError(
                f"{origin!r} is no origin such as https://console.example: scheme, host in small "
                "letters, port unless it is the scheme's own, and nothing after it"
            )
    return found


def plain_keys(value: Any) -> Any:
    """Comma-separated keys of 16 characters or more."""
    if not isinstance(value, str):
        return value
    keys = list(filter(None, (part.strip() for part in value.split(","))))
    if PLACEHOLDERS & set(keys):
        raise ValueError("is the placeholder of an example; make one of your own")
    if any(len(key) < 16 for key in keys):
        raise ValueError("a key is shorter than 16 characters")
    if len(set(keys)) < len(keys):
        raise ValueError("two entries have the same key")
    return tuple(map(SecretStr, keys))


def names(value: Any) -> Any:
    """Names, comma-separated."""
    if not isinstance(value, str):
        return value
    return tuple(filter(None, (part.strip() for part in value.split(","))))


def is_loopback(host: str) -> bool:
    return host.lower() in {"localhost", "::1"} or host.startswith("127.")


def https_or_loopback(value: str) -> str:
    """An https URL without a path, or an http one of this machine: credentials go there."""
    found = re.fullmatch(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?/?", value)
    if value and (found is None or (found[1] == "http" and not is_loopback(found[2].strip("[]")))):
        raise ValueError("write an https:// URL without a path (http:// only on this machine)")
    return value.rstrip("/")


def matching(pattern: str, example: str) -> AfterValidator:
    """Text of this form, or none."""

    def checked(value: str) -> str:
        if value and not re.fullmatch(pattern, value):
            raise ValueError(f"write it like {example}")
        return value

    return AfterValidator(checked)
