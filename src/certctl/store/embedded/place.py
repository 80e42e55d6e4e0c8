"""Where a cluster lives, who runs it, and the three small files that remember it.

As root the cluster lives outside the data directory, because PostgreSQL refuses to run as root
and the data directory must stay closed to the user it runs under.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certctl.domain.errors import Unsafe

ROOT_HOME = Path("/var/lib/certctl")
USERS = ("certctl", "nobody")
POINTER = "postgres.json"
PASSWORD = "postgres.password"  # noqa: S105 - the name of the file
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class Runner:
    """The operating system user PostgreSQL runs under."""

    uid: int
    gid: int

    @property
    def process(self) -> dict[str, Any]:
        """Arguments of `Popen` that drop to this user, when we are somebody else."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Hand over what we have just created."""
        if self.process:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


@dataclass(frozen=True)
class Place:
    """One cluster: `cluster` is PostgreSQL's data directory, `data_dir` is certctl's."""

    data_dir: Path
    cluster: Path
    runner: Runner

    @property
    def home(self) -> Path:
        """The directory that holds the cluster and nobody else's files."""
        return self.cluster.parent


def prepare(data_dir: Path) -> None:
    """Create `data_dir` if it is missing.

    Raises:
        Unsafe: when it cannot be written, naming CERTCTL_DATA_DIR.
        OSError: when root cannot create the home of all clusters.
    """
    if os.geteuid() == 0:
        # First, and searchable by others: it may be the data directory as well, and the user
        # PostgreSQL runs under passes through it.
        ROOT_HOME.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=data_dir).close()
    except OSError as error:
        raise Unsafe(
            f"The data directory {data_dir} cannot be written by user {os.geteuid()} "
            f"({error.strerror}): give it to that user, or set CERTCTL_DATA_DIR to a directory "
            "that is theirs."
        ) from error


def find(data_dir: Path) -> Place:
    """The place of the cluster of `data_dir`, which may have to be created yet.

    Raises:
        Unsafe: when the pointer leads nowhere or the cluster belongs to somebody else.
    """
    pointer = read_pointer(data_dir)
    if "cluster" in pointer:
        cluster = data_dir / pointer["cluster"]
        if not (cluster / "PG_VERSION").exists():
            raise Unsafe(
                f"{data_dir / POINTER} says that the database lives in {cluster}, and it is not "
                "there: bring it back, or remove that file to begin with an empty database."
            )
    elif os.geteuid() == 0 and not (data_dir / "postgres" / "PG_VERSION").exists():
        cluster = ROOT_HOME / hashed(data_dir) / "postgres"
    else:
        cluster = data_dir / "postgres"
    return Place(data_dir, cluster, _runner(cluster))


def hashed(data_dir: Path) -> str:
    """The name of root's home for the cluster of `data_dir`, which must be resolved."""
    return hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def make_home(place: Place) -> None:
    """Create the home of the cluster, and see to it that PostgreSQL's user can reach it.

    Raises:
        Unsafe: naming the directory that bars the way.
    """
    place.home.mkdir(mode=0o711, parents=True, exist_ok=True)
    if not place.runner.process:
        return
    for directory in (place.home, *place.home.parents):
        seen = directory.stat()
        owns = seen.st_uid == place.runner.uid and seen.st_mode & 0o100
        shares = seen.st_gid == place.runner.gid and seen.st_mode & 0o010
        if not (seen.st_mode & 0o001 or owns or shares):
            raise Unsafe(
                f"PostgreSQL runs as user {place.runner.uid}, who may not enter {directory}: "
                f"allow it with `chmod o+x {directory}`, or run certctl as an ordinary user."
            )


def password(place: Place) -> str:
    """The password of the cluster's superuser; made when there is no cluster yet.

    Raises:
        Unsafe: when the cluster is there and its password is not.
    """
    path = place.data_dir / PASSWORD
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        if (place.cluster / "PG_VERSION").exists():
            raise Unsafe(
                f"The database in {place.cluster} cannot be opened without {path}: bring that "
                f"file back from a backup, or remove {place.home} to begin with an empty database."
            ) from None
    made = secrets.token_urlsafe(32)
    write_private(path, f"{made}\n".encode())
    return made


def socket_directory(place: Place) -> Path:
    """A private directory whose socket path fits into an address, the same one each time.

    Raises:
        Unsafe: when the directory of the last time is now somebody else's.
    """
    if _fits(place.cluster):
        return place.cluster
    recorded = read_pointer(place.data_dir).get("socket_dir")
    if recorded and _fits(Path(recorded)):
        try:
            return private(Path(recorded), place.runner)
        except FileNotFoundError:
            pass  # a runtime directory that went away with its session
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    parents = [Path(p) for p in (runtime, tempfile.gettempdir(), "/tmp") if p]  # noqa: S108
    for parent in parents:
        if _fits(parent / "certctl-12345678") and os.access(parent, os.W_OK):
            made = Path(tempfile.mkdtemp(prefix="certctl-", dir=parent))
            place.runner.own(made)
            return made
    raise Unsafe(f"No directory with a path short enough for a socket: tried {parents}.")


def private(directory: Path, runner: Runner) -> Path:
    """`directory`, created when missing, if it is closed to all but `runner`.

    Raises:
        Unsafe: when it is anything else; a name in a shared directory may have been taken.
        FileNotFoundError: when its parent is gone.
    """
    try:
        directory.mkdir(mode=0o700)
        runner.own(directory)
    except FileExistsError:
        seen = directory.lstat()
        if (seen.st_mode & 0o170077, seen.st_uid) != (0o040000, runner.uid):
            raise Unsafe(f"{directory} is not a private directory of ours: remove it.") from None
    return directory


def read_pointer(data_dir: Path) -> dict[str, str]:
    """What the last start remembered: `cluster` and `socket_dir`; empty before the first.

    Raises:
        Unsafe: when the file is damaged.
    """
    path = data_dir / POINTER
    try:
        known = json.loads(path.read_text())
        return {str(name): str(value) for name, value in known.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        raise Unsafe(
            f'{path} is damaged: write {{"cluster": "…"}} into it, naming the directory that '
            "holds PG_VERSION."
        ) from None


def write_pointer(place: Place, socket_dir: Path) -> None:
    """Remember where the cluster and its socket are, so that a moved data directory still fits."""
    inside = place.cluster.is_relative_to(place.data_dir)
    cluster = place.cluster.relative_to(place.data_dir) if inside else place.cluster
    known = {"cluster": str(cluster), "socket_dir": str(socket_dir)}
    if read_pointer(place.data_dir) != known:
        write_private(place.data_dir / POINTER, f"{json.dumps(known)}\n".encode())


def write_private(path: Path, content: bytes) -> None:
    """Put `content` into a file of mode 0600; after a crash it is there whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / SOCKET)) <= LONGEST_SOCKET_PATH


def _runner(cluster: Path) -> Runner:
    try:
        seen = cluster.stat()
    except FileNotFoundError:
        return _first_runner()
    if seen.st_uid == 0:
        raise Unsafe(f"{cluster} belongs to root, and PostgreSQL refuses to run as root.")
    if os.geteuid() not in {0, seen.st_uid}:
        raise Unsafe(
            f"The database in {cluster} belongs to user {seen.st_uid}: run certctl as that user, "
            "or as the one who started it first."
        )
    return Runner(seen.st_uid, seen.st_gid)


def _first_runner() -> Runner:
    if os.geteuid() != 0:
        return Runner(os.geteuid(), os.getegid())
    for name in USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid != 0:
            return Runner(user.pw_uid, user.pw_gid)
    raise Unsafe(f"PostgreSQL needs one of the users {', '.join(USERS)}: create it.")
