"""Runs every benchmark in bench/, one after the other. Benchmarks are no tests: they measure and do not judge.

A benchmark is a script whose first comment says where it runs: `# environment: keyword`.
"""

import re
import subprocess
import sys

from shared_ops.settings import ROOT, python_of


def main() -> None:
    """Run all of them; exit with an error where one fails."""
    failed = []
    for script in sorted((ROOT / "bench").glob("[!_]*.py")):
        stated = re.search(r"^# environment: (\w+)$", script.read_text(), re.MULTILINE)
        if stated is None:
            sys.exit(f"{script.relative_to(ROOT)} does not say where it runs: `# environment: <one of envs/>`.")
        print(f"== {script.name} (in envs/{stated[1]})", flush=True)
        command = [str(python_of(stated[1])), "-m", f"bench.{script.stem}"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            failed.append(script.name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
