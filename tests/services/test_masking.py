"""No kind of issuer, target or channel shows a secret of its configuration, at whatever depth."""

from __future__ import annotations

import json
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from certctl.connectors import catalog
from certctl.services import plain
from tests import kit


class Deep(BaseModel):
    """Every shape in which a configuration may hold a secret."""

    class Inner(BaseModel):
        user: str
        password: SecretStr

    token: SecretStr
    maybe: SecretStr | None = None
    many: list[SecretStr] = []
    inner: Inner
    inners: list[Inner] = []
    named: dict[str, Inner] = {}
    either: Inner | str = ""


KINDS = {
    "Deep": Deep,
    "Toy": kit.Toy.Config,
    **{kind: catalog.issuer_class(kind).Config for kind in catalog.ISSUERS},
    **{kind: catalog.target_class(kind).Config for kind in catalog.TARGETS},
    **{kind: catalog.notifier_class(kind).Config for kind in catalog.NOTIFIERS},
}


def filled(annotation: Any) -> Any:
    """A value of this type in which every secret is `sesame`."""
    inner = get_args(annotation)
    origin = get_origin(annotation)
    if annotation is SecretStr:
        return SecretStr("sesame")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        values = {name: filled(f.annotation) for name, f in annotation.model_fields.items()}
        return annotation.model_construct(set(values), **values)
    if origin in (list, tuple, set):
        return [filled(inner[0])]
    if origin is dict:
        return {"key": filled(inner[1])}
    if origin in (Union, UnionType):
        return filled(next((each for each in inner if "sesame" in shape(each)), inner[0]))
    return "plain"


def shape(annotation: Any) -> str:
    """`sesame` in it, when a value of this type can hold a secret."""
    return repr(_opened(filled(annotation)))


def _opened(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _opened(item) for name, item in value.__dict__.items()}
    if isinstance(value, list):
        return [_opened(item) for item in value]
    if isinstance(value, dict):
        return {name: _opened(item) for name, item in value.items()}
    return value


@pytest.mark.parametrize("name", KINDS)
def test_what_is_shown_and_audited_of_a_configuration_holds_no_secret(name: str) -> None:
    assert "sesame" not in json.dumps(plain.masked(filled(KINDS[name])))


@pytest.mark.parametrize("name", ["Deep", "Toy"])
def test_this_test_would_see_a_secret(name: str) -> None:
    assert shape(KINDS[name]).count("sesame") >= 2
