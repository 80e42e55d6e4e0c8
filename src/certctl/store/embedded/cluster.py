"""Making a cluster: `initdb`, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess

from certctl.domain.errors import Unsafe
from certctl.store.embedded.binaries import Binaries
from certctl.store.embedded.place import Place, write_private

SUPERUSER = "certctl"
# Our own environment holds secrets, and PG* variables would steer the programs.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def create(place: Place, binaries: Binaries, *, password: str) -> None:
    """Initialise the cluster of `place` under another name, then give it its own.

    Raises:
        Unsafe: with PostgreSQL's own words when `initdb` fails.
    """
    unfinished = place.cluster.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    place.runner.own(unfinished)
    # A file, since a descriptor of ours cannot be opened again after the change of user.
    told = place.home / "postgres.pwfile"
    write_private(told, f"{password}\n".encode())
    place.runner.own(told)
    try:
        subprocess.run(
            [
                binaries.bin / "initdb",
                *("-D", unfinished, f"--username={SUPERUSER}", f"--pwfile={told}"),
                *("--auth=scram-sha-256", "--locale=C", "--encoding=UTF8"),
                *("--data-checksums", "--no-instructions"),
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
            umask=0o077,
            **place.runner.process,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        words = str(error.stderr or error).strip().splitlines()
        raise Unsafe(
            f"PostgreSQL could not create a database in {place.cluster}: {words[-1]}"
        ) from error
    finally:
        told.unlink()
    unfinished.rename(place.cluster)
