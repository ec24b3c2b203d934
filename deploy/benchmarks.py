"""Runs the benchmarks in bench/, one after the other, and writes their figures into bench/RESULTS.md.

    python -m deploy.benchmarks [name ...]    (in envs/platform; without a name: all)

Benchmarks are no tests: they measure and do not judge. One is a script whose first comment says where it runs:
`# environment: keyword`. Some need a running stack, and say so. What is not measured this time keeps its row, with the
day that it is of; git has the files of before.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench._figures import GATHERED, GOALS
from shared_ops.data import markdown
from shared_ops.settings import ROOT, python_of

RESULTS = ROOT / "bench" / "RESULTS.md"
COLUMNS = ("figure", "value", "goal", "value / goal", "met", "before", "measured")
HEAD = """# What the benchmarks measured last

Written by `make bench`. Goals are for two cores and the default corpus; `before` is the value that the row had until
then.
"""


def main() -> None:
    """Run them, write what they measured, and exit with an error where one fails."""
    arguments = argparse.ArgumentParser(description="Run the benchmarks, or those that are named.")
    arguments.add_argument("names", nargs="*", metavar="name", help="a script in bench/, without .py")
    scripts = {script.stem: script for script in sorted((ROOT / "bench").glob("[!_]*.py"))}
    names = arguments.parse_args().names or list(scripts)
    if unknown := [name for name in names if name not in scripts]:
        sys.exit(f"No benchmark {' '.join(unknown)}. There are: {' '.join(scripts)}.")
    with tempfile.NamedTemporaryFile() as gathered:
        failed = [name for name in names if not _run(scripts[name], gathered.name)]
        measured = [json.loads(line) for line in Path(gathered.name).read_text().splitlines()]
    before = rows(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(results(before, {each["figure"]: each["value"] for each in measured}, _measured()))
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def _run(script: Path, gathered: str) -> bool:
    stated = re.search(r"^# environment: (\w+)$", script.read_text(), re.MULTILINE)
    if stated is None:
        sys.exit(f"{script.relative_to(ROOT)} does not say where it runs: `# environment: <one of envs/>`.")
    print(f"== {script.name} (in envs/{stated[1]})", flush=True)
    command = [str(python_of(stated[1])), "-m", f"bench.{script.stem}"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {GATHERED: gathered}, check=False).returncode == 0


def _measured() -> str:
    bfloat16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else False
    machine = f"{os.cpu_count()} cores, {platform.machine()}{', bfloat16' if bfloat16 else ''}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}, load {os.getloadavg()[0]:.1f} at the end"


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a file of results, by figure: the cells after it."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells if first in GOALS}


def results(before: Mapping[str, Sequence[str]], values: Mapping[str, float], measured: str) -> str:
    """The file of results: what was measured now, each beside its goal and its value before; else the row of before."""
    made = []
    for name, goal in GOALS.items():
        last = before.get(name)
        if name in values:
            value = values[name]
            met, was = "yes" if goal.is_met(value) else "NO", last[0] if last else ""
            made.append([name, f"{value:.4g} {goal.unit}", str(goal), f"{value / goal.value:.2f}", met, was, measured])
        elif last:
            made.append([name, *last])
    return f"{HEAD}\n{markdown.table(COLUMNS, made)}\n"


if __name__ == "__main__":
    main()
