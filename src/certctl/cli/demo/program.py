"""The nginx program: the machine's, the distribution's, or none.

The machine's own NGINX service is never started, enabled or changed. Installing the package would
enable it for the next boot where systemd runs, so there the package is unpacked beside the data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from certctl.domain.errors import Unsafe

CHOICE: Final = "CERTCTL_DEMO_NGINX"
NONE: Final = "none"
POLICY: Final = Path("/usr/sbin/policy-rc.d")
SYSTEMD: Final = Path("/run/systemd/system")
SHORT: Final = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15")
LONGEST: Final = 180.0


def find(unpacked: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> str | None:
    """The path of a working nginx, or None; fetched from the distribution if need be.

    `unpacked` is a folder of ours for a package that is not installed.

    Raises:
        Unsafe: when CERTCTL_DEMO_NGINX names a program that does not run.
    """
    choice = environment.get(CHOICE, "")
    if choice == NONE:
        return None
    if choice:
        if not runs(choice):
            raise Unsafe(f"{CHOICE}: {choice} does not run; give the path of nginx, or {NONE}")
        return choice
    return _present(unpacked, environment) or _fetched(unpacked, environment, say)


def runs(program: str) -> bool:
    """Whether the program starts and says its version."""
    try:
        return subprocess.run([program, "-v"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _present(unpacked: Path, environment: Mapping[str, str]) -> str | None:
    path = f"{environment.get('PATH', '')}:/usr/sbin:/usr/local/sbin:{unpacked}/usr/sbin"
    found = shutil.which("nginx", path=path)
    return found if found and runs(found) else None


def _fetched(
    unpacked: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> str | None:
    if not shutil.which("apt-get"):
        return None
    as_root = os.geteuid() == 0
    if as_root:
        say("NGINX is not on this machine: asking the distribution for it")
        _try("apt-get", *SHORT, "update", "-qq")
    if as_root and not SYSTEMD.exists():
        with _start_denied():
            _try(
                "apt-get", *SHORT, "install", "-y", "-qq", "--no-install-recommends", "nginx-light"
            )
    elif shutil.which("dpkg"):
        _unpack(unpacked)
    return _present(unpacked, environment)


def _unpack(unpacked: Path) -> None:
    """The package that holds the binary has had two names."""
    unpacked.mkdir(parents=True, exist_ok=True)
    for package in ("nginx", "nginx-light"):
        _try("apt-get", *SHORT, "download", package, folder=unpacked)
        for archive in unpacked.glob("*.deb"):
            _try("dpkg", "-x", str(archive), str(unpacked))
            archive.unlink()
        if runs(f"{unpacked}/usr/sbin/nginx"):
            return


@contextmanager
def _start_denied() -> Iterator[None]:
    """Debian's policy-rc.d keeps the package from starting its service; removed if it is ours."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _try(*argv: str, folder: Path | None = None) -> None:
    """Run a step that may fail: what counts is whether nginx runs afterwards."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(argv, cwd=folder, env=environment, capture_output=True, timeout=LONGEST)
    except (OSError, subprocess.SubprocessError):
        return
