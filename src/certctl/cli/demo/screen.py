"""What a person sees: steps, facts, jobs while they move, and lines to paste."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from certctl.cli.render import STYLES, cell

Job = dict[str, Any]
WIDTH: Final = 14


class Screen:
    """Updates in place on a terminal, plain lines into a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, markup=False)
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the demonstration began."""
        return time.monotonic() - self._began

    def step(self, text: str) -> None:
        self._print()
        self._print(Text.assemble((f"{self.elapsed:5.1f} s  ", "dim"), (text, "bold")))

    def fact(self, name: str, value: str, style: str = "") -> None:
        self._print(Text.assemble((f"         {name:<{WIDTH}} ", "dim"), (cell(value), style)))

    def note(self, text: str) -> None:
        self._print(Text(f"         {cell(text)}"))

    def line_to_paste(self, meaning: str, line: str) -> None:
        self._print(Text(f"  # {meaning}", style="dim"))
        self._print(Text(f"  {line}"))

    def watch(self, moments: Iterable[list[Job]]) -> None:
        """Show jobs until their last state."""
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=8) as live:
                for jobs in moments:
                    live.update(job_table(jobs, datetime.now(UTC)))
            return
        told: dict[str, tuple[str, int]] = {}
        for jobs in moments:
            for job in jobs:
                state = (job["status"], job["attempts"])
                if told.get(job["id"]) != state:
                    told[job["id"]] = state
                    self._print(Text(job_line(job, self.elapsed)))

    def _print(self, text: Text | str = "") -> None:
        self.console.print(text, soft_wrap=True)


def job_line(job: Job, elapsed: float) -> str:
    why = f"  {cell(job['last_error'])}" if job["last_error"] else ""
    attempts = f"attempt {job['attempts']}/{job['max_attempts']}"
    return f"{elapsed:5.1f} s  {job['type']:<{WIDTH}} {job['status']:<12} {attempts}{why}"


def job_table(jobs: list[Job], now: datetime) -> Table:
    """Type, state, attempts, age in seconds, and what went wrong."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "type", "state", "attempts", "age", "last error"):
        grid.add_column(name, justify="right" if name in {"attempts", "age"} else "left")
    for job in jobs:
        end = datetime.fromisoformat(job["completed_at"]) if job["completed_at"] else now
        age = (end - datetime.fromisoformat(job["created_at"])).total_seconds()
        grid.add_row(
            job["id"],
            job["type"],
            Text(job["status"], style=STYLES.get(job["status"], "")),
            f"{job['attempts']}/{job['max_attempts']}",
            f"{max(age, 0):.0f} s",
            Text(cell(job["last_error"])) if job["last_error"] else "",
        )
    return grid
