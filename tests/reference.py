"""`python -m tests.reference` writes docs/reference from the code; test_golden keeps it current."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from certctl import settings
from certctl.connectors import catalog
from certctl.domain.access import ANY_ACTOR, ROLES
from certctl.web import app, gate

FOLDER: Final = Path(__file__).parent.parent / "docs" / "reference"
GENERATED: Final = "Written by `make docs` from the code; change it there.\n"


def settings_page() -> str:
    """The table that `certctl settings` prints."""
    return _page(
        "Settings",
        "The control plane reads these environment variables at its start; an empty one counts as "
        "absent. A value that does not parse stops the start and is named. Times are written "
        "`30s`, `5m`, `1h30m` or `7d`.",
        settings.table(),
    )


def routes_page() -> str:
    """The rows of `certctl routes` as a Markdown table."""
    rows = ["| Method | Path | Needs |", "|---|---|---|"]
    for line in app.table().splitlines():
        method, path, needs = line.split(maxsplit=2)
        rows.append(f"| {method} | `{path}` | {needs} |")
    return _page(
        "Routes",
        "Every route of both listeners with the permission it needs. The plain-http listener "
        "offers those under `/.well-known/pki/` alone.",
        "\n".join(rows) + "\n",
    )


def roles_page() -> str:
    """Which built-in role opens which route."""
    head = " | ".join(role.removeprefix("r-") for role in ROLES)
    rows = [f"| Method | Path | {head} |", "|---" * (2 + len(ROLES)) + "|"]
    every = (row for resource in app.RESOURCES for row in resource.routes)
    for row in sorted(every, key=lambda row: (row.path, row.method)):
        opens = (row.needs is ANY_ACTOR or row.needs in held for held in ROLES.values())
        marks = " | ".join("x" if each else " " for each in opens)
        rows.append(f"| {row.method} | `{gate.PREFIX}{row.path}` | {marks} |")
    return _page(
        "Roles",
        "The routes that each built-in role opens. An agent's own routes open for that agent "
        "alone; what a role for one issuer or profile shows is in `docs/guide/access.md`.",
        "\n".join(rows) + "\n",
    )


def connectors_page() -> str:
    """Each kind of issuer and target with its configuration."""
    parts = [
        f"## {title}: {kind}\n\n{_config(find(kind).Config)}"
        for title, kinds, find in (
            ("Issuer", catalog.ISSUERS, catalog.issuer_class),
            ("Target", catalog.TARGETS, catalog.target_class),
        )
        for kind in kinds
    ]
    return _page(
        "Connectors",
        "The kinds of issuers and targets, and the fields of `config` that each takes.",
        "\n".join(parts),
    )


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings.md": settings_page,
    "routes.md": routes_page,
    "roles.md": roles_page,
    "connectors.md": connectors_page,
}


def _page(title: str, text: str, body: str) -> str:
    return f"# {title}\n\n{GENERATED}\n{text}\n\n{body}"


def _config(model: type[BaseModel]) -> str:
    rows = ["| Field | Default | Meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {default} | {text} |" for name, default, text in _fields(model, "")]
    return "\n".join(rows) + "\n"


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning; the fields of a nested model follow it, dotted."""
    for name, field in model.model_fields.items():
        text = (field.description or "").replace("|", "\\|")
        yield prefix + name, _default(field), text
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or value == "" or isinstance(value, BaseModel):
        return "–"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
