"""The checks that need no running model: style, types, borders between repositories, fresh locks.

Run as `python -m deploy.checks` in envs/platform. All of them run, whichever fails.
"""

import subprocess
import sys
import time
from pathlib import Path

from shared_ops.settings import ROOT

TOOLS = Path(sys.executable).parent
CHECKS = {
    "style": [str(TOOLS / "ruff"), "check", "--quiet", "--output-format=concise"],
    "format": [str(TOOLS / "ruff"), "format", "--check", "--quiet"],
    "types": [str(TOOLS / "mypy"), "--no-error-summary"],
    "borders": [str(TOOLS / "lint-imports"), "--no-logo"],
    "locks": [sys.executable, "envs/build.py", "check"],
}


def run() -> dict[str, bool]:
    """Run every check, print what a failing one says; returns which of them hold."""
    return {name: _holds(name, command) for name, command in CHECKS.items()}


def _holds(name: str, command: list[str]) -> bool:
    began = time.monotonic()
    result = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    holds = result.returncode == 0
    print(f"{name:<8} {'holds' if holds else 'FAILS'} ({time.monotonic() - began:.1f} s)", flush=True)
    if not holds:
        print(result.stdout, flush=True)
    return holds


if __name__ == "__main__":
    sys.exit(0 if all(run().values()) else 1)
