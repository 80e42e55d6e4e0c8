"""What the code says of itself, compared with the files that a change is reviewed against.

`make golden` writes tests/golden anew, `make docs` docs/reference.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from certctl.boot import commands
from certctl.domain.access import ANY_ACTOR
from certctl.web import app, gate
from tests import reference

GOLDEN = Path(__file__).parent / "golden"
METHODS = {"get", "post", "put", "delete"}


def printed(command: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    command()
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("routes.txt", commands.routes),
        ("openapi.json", commands.openapi),
        ("settings.md", commands.settings),
        ("connectors.txt", commands.connectors),
    ],
)
def test_what_the_code_prints_of_itself_has_been_reviewed(
    name: str, command: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    text, file = printed(command, capsys), GOLDEN / name
    if os.environ.get("CERTCTL_WRITE_GOLDEN") == "1":
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{name} differs: run `make golden` and review the diff"


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_the_reference_pages_are_current(name: str) -> None:
    page = reference.PAGES[name]()
    file = reference.FOLDER / name
    assert page == (file.read_text() if file.exists() else ""), f"{name} is old: run `make docs`"


@cache
def document() -> dict[str, Any]:
    return app.openapi_document()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = document()["paths"]
    return [
        (method, path, operation)
        for path, item in paths.items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_every_route_is_in_the_openapi_document_and_nothing_else() -> None:
    declared = {
        (row.method.lower(), gate.PREFIX + row.path)
        for each in app.RESOURCES
        for row in each.routes
    } | {(method.lower(), path) for face in app.FACES for method, path in face.routes}
    assert {(method, path) for method, path, _ in operations()} == declared


def test_no_operation_answers_422() -> None:
    assert [path for _, path, each in operations() if "422" in each["responses"]] == []
    assert "HTTPValidationError" not in json.dumps(document())


def test_operation_ids_are_unique() -> None:
    ids = [each["operationId"] for _, _, each in operations()]
    assert sorted(set(ids)) == sorted(ids)


def test_every_reference_in_the_openapi_document_leads_somewhere() -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document())))
    assert named - set(document()["components"]["schemas"]) == set()


def test_every_gated_operation_describes_its_refusals() -> None:
    """Whoever needs a permission can be told 401, 403, 429, 500 and 503."""
    for method, path, operation in operations():
        if operation["security"]:
            missing = {"401", "403", "429", "500", "503"} - set(operation["responses"])
            assert not missing, f"{method} {path} does not describe {missing}"


def test_every_operation_says_what_it_does_and_needs() -> None:
    for method, path, operation in operations():
        assert operation.get("summary") or operation.get("description"), f"{method} {path}"
        if operation["security"]:
            assert operation["x-permission"], f"{method} {path}"


def test_what_is_open_to_any_actor_tells_of_oneself_alone() -> None:
    open_to_all = [
        row.path for each in app.RESOURCES for row in each.routes if row.needs is ANY_ACTOR
    ]
    assert open_to_all == ["/auth/check", "/auth/me", "/auth/permissions"]
