"""Puts files in place for every file-based target: stage, back up, swap, validate, reload, verify.

Whatever fails, or whoever is killed, the host ends with the old files or the new ones, whole.
"""

from certctl.connectors.files.engine import deploy, put, recover
from certctl.connectors.files.plan import (
    AbsolutePath,
    DeployFailed,
    FileMode,
    FilePlan,
    PlannedFile,
    Step,
)

__all__ = [
    "AbsolutePath",
    "DeployFailed",
    "FileMode",
    "FilePlan",
    "PlannedFile",
    "Step",
    "deploy",
    "put",
    "recover",
]
