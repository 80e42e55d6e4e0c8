"""The embedded server as the rest of certctl sees it: start, watch, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from certctl.domain.errors import Unavailable, Unsafe
from certctl.store.embedded import binaries, cluster, lock, place, postmaster
from certctl.store.embedded.place import Place
from certctl.store.embedded.postmaster import Postmaster

log = logging.getLogger(__name__)

DATABASE = "certctl"
ANSWERS_WITHIN = 60.0
LOOK_EVERY = 0.2
LONGEST_PAUSE = 10.0


class EmbeddedPostgres:
    """PostgreSQL below a data directory, run by this process and by no other.

    `start` and `stop` block and belong into a thread; `watch` runs beside the server.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._busy = threading.Lock()
        self._stopping = threading.Event()
        self._locks: list[int] = []
        self._place: Place | None = None
        self._socket_dir = Path()
        self._postmaster: Postmaster | None = None

    @property
    def is_running(self) -> bool:
        """Whether the server process is alive at this moment."""
        return self._postmaster is not None and self._postmaster.is_alive

    @property
    def pid(self) -> int | None:
        """The process id of the server, if it was started."""
        return self._postmaster.pid if self._postmaster else None

    @property
    def home(self) -> Path:
        """The directory that holds the cluster; the data directory itself unless we are root."""
        return (self._place or place.find(self._data_dir)).home

    def start(self) -> str:
        """Create the cluster if needed, start or adopt its server, return its connection URL.

        Raises:
            Unsafe: when the directory, the cluster or its owner do not allow it, and when
                another certctl runs on the same data directory.
            Unavailable: when PostgreSQL itself does not get ready.
        """
        with self._busy, ExitStack() as undo:
            undo.callback(self._let_go)
            self._stopping.clear()
            try:
                url = self._start()
            except OSError as error:
                raise Unsafe(
                    f"The embedded PostgreSQL of {self._data_dir} cannot be started: {error}. "
                    "Mend that, or set CERTCTL_DATABASE_URL to a server of yours."
                ) from error
            undo.pop_all()
            return url

    def stop(self) -> None:
        """Stop the server and give the data directory free; harmless when it does not run."""
        self._stopping.set()
        with self._busy:
            self._let_go()

    async def watch(self) -> None:
        """Bring the server back whenever it dies; returns after `stop`.

        The connection URL stays the same. A start that fails is tried again after growing
        pauses, without end: the platform is of no use without its database.
        """
        pause = LOOK_EVERY
        while not self._stopping.is_set():
            await asyncio.sleep(pause)
            if self.is_running:
                pause = LOOK_EVERY
                continue
            if self._stopping.is_set():
                return
            log.error("the embedded PostgreSQL ended; starting it again")
            try:
                await asyncio.to_thread(self._restart)
            except (Unavailable, Unsafe, OSError) as error:
                log.error("the embedded PostgreSQL is down: %s", error)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _start(self) -> str:
        place.prepare(self._data_dir)
        self._locks.append(lock.hold(self._data_dir))
        here = place.find(self._data_dir)
        place.make_home(here)
        if here.home != self._data_dir:
            # Two copies of a data directory may point to the same cluster.
            self._locks.append(lock.hold(here.home))
        self._place = here
        secret = place.password(here)
        if not (here.cluster / "PG_VERSION").exists():
            cluster.create(here, self._programs(here), password=secret)
        self._postmaster = self._adopt(here, secret)
        if self._postmaster is None:
            self._socket_dir = place.socket_directory(here)
            self._postmaster = self._launch(here)
        place.write_pointer(here, self._socket_dir)
        _make_database(_url(self._socket_dir, secret, database="postgres"))
        return _url(self._socket_dir, secret, database=DATABASE)

    def _programs(self, here: Place) -> binaries.Binaries:
        found = binaries.for_cluster(here.cluster)
        return binaries.copied(found, here.home) if here.runner.process else found

    def _launch(self, here: Place) -> Postmaster:
        if self._socket_dir != here.cluster:
            place.private(self._socket_dir, here.runner)
        return postmaster.launch(
            here, self._programs(here), socket_dir=self._socket_dir, given_up=self._stopping
        )

    def _restart(self) -> None:
        with self._busy:
            if self._place and not self._stopping.is_set() and not self.is_running:
                self._postmaster = self._launch(self._place)

    def _adopt(self, here: Place, secret: str) -> Postmaster | None:
        """The server a killed certctl left behind, if it lives and takes our password."""
        deadline = time.monotonic() + ANSWERS_WITHIN
        while True:
            known = postmaster.read_pid_file(here.cluster)
            if known is None or not postmaster.serves(known.pid, here.cluster):
                return None
            orphan = Postmaster(known.pid, here.cluster, child=None)
            if known.socket_dir and known.status == "ready":
                url = _url(known.socket_dir, secret, database="postgres")
                if _serves_cluster(url, here.cluster):
                    self._socket_dir = known.socket_dir
                    return orphan
            if time.monotonic() > deadline:
                # It is ours by its lock file and out of reach: its socket may have been removed.
                orphan.stop()
                if orphan.is_alive:
                    raise Unavailable(f"PostgreSQL (process {orphan.pid}) neither answers nor ends")
            time.sleep(0.05)

    def _let_go(self) -> None:
        if self._postmaster is not None:
            self._postmaster.stop()
            self._postmaster = None
        while self._locks:
            os.close(self._locks.pop())


def recorded_conninfo(data_dir: Path) -> str:
    """The connection URL of the server that `certctl serve` runs on `data_dir`.

    For the processes that use the database and never start it.

    Raises:
        Unavailable: when no server has been started there yet.
    """
    try:
        secret = (data_dir / place.PASSWORD).read_text().strip()
    except OSError as error:
        raise Unavailable(
            f"No database has been started in {data_dir} ({error.strerror}): run `certctl serve` "
            "there, or set CERTCTL_DATABASE_URL."
        ) from error
    socket_dir = place.read_pointer(data_dir).get("socket_dir")
    if socket_dir is None:
        raise Unavailable(f"The database in {data_dir} is not ready yet.")
    return _url(Path(socket_dir), secret, database=DATABASE)


def _url(socket_dir: Path, secret: str, *, database: str) -> str:
    host = quote(str(socket_dir), safe="")
    return f"postgresql://{cluster.SUPERUSER}:{secret}@/{database}?host={host}&port=5432"


def _serves_cluster(url: str, directory: Path) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and Path(row[0]).samefile(directory)


def _make_database(url: str) -> None:
    known = "SELECT 1 FROM pg_database WHERE datname = %s"
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=30) as connection:
            if connection.execute(known, [DATABASE]).fetchone() is None:
                make = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                connection.execute(make)
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"The embedded PostgreSQL does not let us in with {place.PASSWORD}: {error}"
        ) from error
