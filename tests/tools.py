"""Third-party programs that judge our output: found, installed where possible, or named."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

PACKAGES = {
    "nginx": "nginx-light",
    "openssl": "openssl",
    "curl": "curl",
    "wrk": "wrk",
    "cfssl": "golang-cfssl",
    "apache2": "apache2",
    "haproxy": "haproxy",
    "gnutls-cli": "gnutls-bin",
    "certtool": "gnutls-bin",
    "ocsptool": "gnutls-bin",
    "softhsm2-util": "softhsm2",
    "pkcs11-tool": "opensc",
}


@cache
def need(program: str) -> str:
    """The path of `program`; installed from the distribution when we are root.

    Skips the test with the program's name when it is not to be had, or fails it when
    CERTCTL_REQUIRE_TOOLS=1.
    """
    found = _found(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with _alone():
            found = _found(program) or _install(program)
    if found is None:
        message = f"{program} is not installed"
        if os.environ.get("CERTCTL_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def _alone() -> Iterator[None]:
    """Tests run on several cores; the distribution's installer wants to be the only one."""
    with (Path(tempfile.gettempdir()) / "certctl-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(program: str) -> str | None:
    policy = Path("/usr/sbin/policy-rc.d")
    denied = not policy.exists()
    if denied:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGES[program]],
        ):
            subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)
    except subprocess.SubprocessError:
        return None
    finally:
        if denied:
            policy.unlink(missing_ok=True)
    return _found(program)
