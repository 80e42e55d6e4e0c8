"""The house rules that a program can check."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.agent import execute
from certctl.connectors import catalog
from certctl.domain import errors
from certctl.domain.job import JobType
from certctl.jobs import tasks
from certctl.services import jobs
from certctl.store import queue
from certctl.web.problems import STATUS

SOURCE = Path(__file__).parent.parent / "src" / "certctl"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 500, 60  # lines
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def functions(file: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(file)) if isinstance(node, Function))


def every_error(kind: type[errors.CertctlError] = errors.CertctlError) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from every_error(each)


def test_a_file_can_be_read_in_one_sitting() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_a_function_fits_a_screen() -> None:
    lengths = {
        f"{name_of(file)}:{each.name}": (each.end_lineno or 0) - each.lineno + 1
        for file in FILES
        for each in functions(file)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_a_module_says_what_lives_in_it() -> None:
    silent = [name_of(f) for f in FILES if tree(f).body and not ast.get_docstring(tree(f))]
    assert silent == []


def test_everything_is_caught_only_at_the_outermost_edges() -> None:
    """The web's two doors and the agent's jobs; each logs what it ends."""
    caught = [
        name_of(file)
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    ]
    assert caught == ["agent/execute.py", "web/front.py", "web/public/wire.py"]


def test_names_say_what_a_thing_is() -> None:
    vague = re.compile(r"(Manager|Helper|Util|Utils|Base|Impl)$")
    names = [
        node.name for f in FILES for node in ast.walk(tree(f)) if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in names if vague.search(name)] == []
    assert {file.stem for file in FILES} & {"utils", "util", "helpers", "helper", "misc"} == set()


def test_comments_hold_no_history() -> None:
    """What was and what is to come live in git and in issues."""
    marks = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b|#\s*\d{4}-\d\d-\d\d")
    lines = [(name_of(file), line) for file in FILES for line in file.read_text().splitlines()]
    assert [(name, line) for name, line in lines if marks.search(line)] == []


def test_every_error_has_a_status() -> None:
    """One of its own, or that of the class it narrows."""
    assert [error for error in every_error() if not set(STATUS) & set(error.__mro__)] == []


def test_every_error_of_the_tree_has_a_row_of_its_own() -> None:
    declared = {e for e in every_error() if e.__module__ == errors.__name__}
    assert declared - set(STATUS) == set()


@pytest.mark.parametrize("kind", sorted(catalog.TARGETS))
def test_every_target_of_the_catalogue_loads_under_its_name(kind: str) -> None:
    assert catalog.target_class(kind).kind == kind


@pytest.mark.parametrize("kind", sorted(catalog.ISSUERS))
def test_every_issuer_of_the_catalogue_loads_under_its_name(kind: str) -> None:
    assert catalog.issuer_class(kind).kind == kind


@pytest.mark.parametrize(
    "model",
    [
        *(catalog.target_class(kind).Config for kind in sorted(catalog.TARGETS)),
        *(catalog.issuer_class(kind).Config for kind in sorted(catalog.ISSUERS)),
    ],
    ids=lambda model: model.__qualname__,
)
def test_every_field_of_a_connector_has_its_sentence(model: type) -> None:
    fields = model.model_fields  # type: ignore[attr-defined]
    assert [name for name, field in fields.items() if not field.description] == []


def test_every_file_of_the_connectors_folder_is_in_the_catalogue() -> None:
    files = {
        f"certctl.connectors.{folder}.{file.stem}"
        for folder in ("issuers", "targets")
        for file in (SOURCE / "connectors" / folder).glob("[!_]*.py")
    }
    catalogued = {place.partition(":")[0] for place in (catalog.TARGETS | catalog.ISSUERS).values()}
    assert files == catalogued


def types_put() -> set[str]:
    """The job types that the services write into the jobs table."""
    return {
        node.value
        for file in (SOURCE / "services").glob("*.py")
        for pairs in ast.walk(tree(file))
        if isinstance(pairs, ast.Dict)
        for key, value in zip(pairs.keys, pairs.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "type"
        for node in ast.walk(value)
        if isinstance(node, ast.Constant) and node.value in set(JobType)
    }


def test_every_job_that_is_put_has_a_flow() -> None:
    """The server carries out what issues, the agent what deploys."""
    deploys = {JobType.DEPLOYMENT} if "item.type ==" in inspect.getsource(execute) else set()
    assert types_put() == {*jobs.ISSUING, *deploys}


def test_every_task_that_is_deferred_by_name_is_registered() -> None:
    names = {name for name in vars(queue) if name.isupper() and name != "SESSION_OPTIONS"}
    registered = set(re.findall(r"app\.task\(name=([A-Z_]+)\)", inspect.getsource(tasks)))
    assert registered == names
