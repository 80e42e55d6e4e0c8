"""What a file deployment consists of, and how its failure is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from certctl.domain.errors import Invalid, Refused

Step = Callable[[], object]
"""A step of a deployment; it raises a CertctlError with the reason when it fails."""


class DeployFailed(Refused):
    """The new certificate is not in service.

    `rolled_back` says that the host is as it was before; otherwise someone has to look.
    """

    def __init__(self, message: str, *, rolled_back: bool) -> None:
        super().__init__(message)
        self.rolled_back = rolled_back


@dataclass(frozen=True)
class PlannedFile:
    """One file; mode and owner are those set here, else those of the file it replaces, else
    `default_mode` and the owner of the process. `owner` and `group` are names or numbers.
    """

    path: Path
    content: bytes = field(repr=False)
    default_mode: int
    mode: int | None = None
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class FilePlan:
    """Files in the order in which they are swapped, and what must succeed afterwards.

    `validate` runs after the swap, so that the new files are what is checked. `verify` says
    whether the new certificate is served. `backup_retention` backups of each file are kept (0
    means 3); with -1 they go as soon as the deployment is verified.
    """

    files: tuple[PlannedFile, ...]
    validate: Step
    reload: Step
    verify: Step
    backup_retention: int = 3

    @property
    def backups_kept(self) -> int:
        return 3 if self.backup_retention == 0 else max(0, self.backup_retention)


def resolved(files: tuple[PlannedFile, ...]) -> tuple[PlannedFile, ...]:
    """The files with symbolic links followed, so that a link stays a link.

    Raises:
        Invalid: for no files, an empty file, a relative path, or one file named twice.
    """
    if not files:
        raise Invalid("a deployment needs at least one file")
    real = tuple(replace(file, path=real_path(file.path)) for file in files)
    if len({file.path for file in real}) != len(real):
        raise Invalid("two settings name the same file: " + ", ".join(str(f.path) for f in files))
    if empty := [str(file.path) for file in files if not file.content]:
        raise Invalid(f"there is nothing to write to {', '.join(empty)}")
    return real


def real_path(path: Path) -> Path:
    """`path` without symbolic links; the last part need not exist.

    Raises:
        Invalid: when it is relative, or its links run in a circle.
    """
    if not path.is_absolute():
        raise Invalid(f"{path} is not an absolute path")
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise Invalid(f"{path} cannot be followed: {error}") from error


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path) or ".." in path.parts or not path.name:
        raise ValueError("must be an absolute path of a file, without `..`")
    return path


def _octal(value: object) -> object:
    if value in (0, "", "0", None):
        return None
    if isinstance(value, str):
        digits = value.removeprefix("0o")
        if not digits.isascii() or not digits.isdigit() or set(digits) & {"8", "9"}:
            raise ValueError('must be octal digits, such as "0640"')
        value = int(digits, 8)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 0o777:
        raise ValueError('must be a file mode between "0001" and "0777", such as "0640"')
    return value


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]

FileMode = Annotated[
    int | None,
    BeforeValidator(_octal),
    WithJsonSchema({"type": ["string", "null"], "pattern": "^0?[0-7]{3}$"}),
]
"""A mode as operators write it, `"0640"`; a number is taken as the mode's value; 0 is unset."""
