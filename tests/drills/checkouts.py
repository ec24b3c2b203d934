"""A copy of the checkout, with environments of its own, that a drill changes as a team would; and what it changes."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shared_ops.settings import ROOT

FAMILY = "keyword"
ONE_PACKAGE_MORE = "\ntabulate  # what the drill adds\n"


@dataclass(frozen=True)
class Checkout:
    """A checkout in a folder."""

    root: Path

    @classmethod
    def copied(cls, root: Path) -> "Checkout":
        """A copy of this checkout's files, as they are; of its environments uv alone is taken along."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        if (ROOT / "envs" / ".uv").exists():
            (root / "envs" / ".uv").symlink_to(ROOT / "envs" / ".uv", target_is_directory=True)
        return cls(root)

    def change(self, name: str, before: str, after: str) -> None:
        """Replace the one place where a file says `before`."""
        path = self.root / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name} says {before!r} {text.count(before)} times"
        path.write_text(text.replace(before, after))

    def restore(self, *names: str) -> None:
        """Take these files, and those in these folders, back to what they were."""
        for name in names:
            for path in [ROOT / name, *(ROOT / name).glob("*")]:
                if path.is_file():
                    shutil.copy2(path, self.root / path.relative_to(ROOT))


def another_python() -> tuple[str, Path] | None:
    """The version of a Python newer than the environments' that this machine has, and the folder that it lies in."""
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *(Path.home() / ".pyenv" / "versions").glob("*/bin")]
    for version in ("3.12", "3.13"):
        for folder in folders:
            if (python := folder / f"python{version}").exists():
                asked = [str(python), "-c", "import platform; print(platform.python_version())"]
                if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.startswith(version):
                    return version, folder
    return None


def sitting(heading: str) -> list[list[str]]:
    """What docs/adding-a-model.md has people type under a heading: the arguments of make."""
    section = (ROOT / "docs" / "adding-a-model.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line.split()[1:] for line in section.splitlines() if line.startswith("    make ")]
