"""Every connector: its kind, and where its class is imported from when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from certctl.connectors.notifier import Notifier
from certctl.connectors.reach import Reach
from certctl.connectors.target import Target
from certctl.domain.errors import Invalid

TARGETS: dict[str, str] = {
    "HAProxy": "certctl.connectors.targets.haproxy:Haproxy",
    "NGINX": "certctl.connectors.targets.nginx:Nginx",
}

ISSUERS: dict[str, str] = {
    "External": "certctl.connectors.issuers.external:External",
    "GenericCA": "certctl.connectors.issuers.local:LocalCA",
}

NOTIFIERS: dict[str, str] = {"Webhook": "certctl.connectors.notifiers.webhook:Webhook"}


def target_class(kind: str) -> type[Target]:
    """The class of a target type, in any spelling of case.

    Raises:
        Invalid: field `type`, listing the known ones.
    """
    return cast(type[Target], _load(TARGETS, kind, "target"))


def issuer_class(kind: str) -> Any:
    """The class of an issuer type, in any spelling of case.

    Raises:
        Invalid: field `type`, listing the known ones.
    """
    return _load(ISSUERS, kind, "issuer")


def notifier_class(kind: str) -> Any:
    """The class of a notifier, in any spelling of case; `kind` is the channel's name.

    Raises:
        Invalid: field `type`, listing the known ones.
    """
    return _load(NOTIFIERS, kind, "notifier")


def open_notifier(kind: str, config: Mapping[str, Any], *, reach: Reach) -> Notifier:
    """The notifier of this kind with its configuration, that calls what `reach` lets it.

    Raises:
        Invalid: for an unknown kind, or naming the field of `config` that is wrong.
    """
    return cast(Notifier, notifier_class(kind).open(config, reach))


def open_target(kind: str, config: Mapping[str, Any]) -> Target:
    """The target of this kind with its configuration.

    Raises:
        Invalid: for an unknown kind, or naming the field of `config` that is wrong.
    """
    return target_class(kind).open(config)


def _load(table: Mapping[str, str], kind: str, what: str) -> object:
    for known, place in table.items():
        if known.lower() == kind.lower():
            module, _, name = place.partition(":")
            return getattr(import_module(module), name)
    raise Invalid(
        f"there is no {what} type {kind!r}; known are {', '.join(sorted(table))}", field="type"
    )
