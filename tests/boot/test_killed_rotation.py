"""`kill -9` of a rotation before any statement: everything opens, and the next run ends it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from certctl.boot import keys
from certctl.pki.sealing import DataKey
from tests.conftest import PASSPHRASE, a_clone, open_world
from tests.rotated import Values, fill, opened
from tests.store.running import run

pytestmark = pytest.mark.timeout(300)
POINTS = 8
Rotate = Callable[[str, Path, int], int]


@pytest.fixture(scope="module")
def rotate() -> Iterator[Rotate]:
    """Rotates in a process that ends before the step of a number; 0: it is not killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.boot.killed_rotation"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def one(url: str, data: Path, last: int) -> int:
            process.stdin.write(json.dumps([url, str(data), last]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield one
        process.stdin.close()


@pytest.fixture(scope="module")
def filled(postgres: str, ready_template: tuple[str, DataKey]) -> Iterator[tuple[str, Values]]:
    """A database with a value in every sealed column, to be cloned."""

    async def seal(url: str) -> Values:
        async for world in open_world(url, ready_template[1]):
            values = await fill(world)
        return values

    with a_clone(postgres, ready_template[0]) as url:
        yield str(conninfo_to_dict(url)["dbname"]), asyncio.run(seal(url))


def a_place(folder: Path) -> Path:
    folder.mkdir()
    keys.write_whole(folder / keys.FILE, PASSPHRASE, mode=0o600)
    return folder


def opened_by_the_file(url: str, place: Path) -> Values:
    return asyncio.run(opened(url, (place / keys.FILE).read_bytes()))


def test_a_rotation_killed_anywhere_loses_nothing_and_is_ended_by_the_next(
    postgres: str, filled: tuple[str, Values], rotate: Rotate, tmp_path: Path
) -> None:
    template, before = filled
    whole = a_place(tmp_path / "whole")
    with a_clone(postgres, template) as url:
        assert rotate(url, whole, 0) == 0
    steps = int((whole / "taken").read_text())
    assert steps > 40
    # Evenly, and each of the last, where files and keys change hands.
    for last in [*range(1, steps - 6, steps // POINTS), *range(steps - 6, steps + 1)]:
        place = a_place(tmp_path / str(last))
        with a_clone(postgres, template) as url:
            assert rotate(url, place, last) == -9
            assert opened_by_the_file(url, place) == before, last
            assert rotate(url, place, 0) == 0
            assert opened_by_the_file(url, place) == before, last
            assert len(run(url, "SELECT id FROM sealing_keys")) == 1
            words = (place / keys.FILE).read_bytes()
            assert words != PASSPHRASE
            assert (place / keys.FILE).stat().st_mode & 0o777 == 0o600
            assert {file.name for file in place.iterdir()} == {keys.FILE, "taken"}
