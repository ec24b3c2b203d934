"""Trains a release again from its manifest, and compares the result with the release, file by file.

`make reproduce RELEASE=<family>/<version>` runs it with the code and in the environment that made the release
(`release.runtimes`), so its name and its arguments may never change. Nothing is published.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from shared_ops.data import storage
from shared_ops.pipeline.ops import write_trained
from shared_ops.release.inputs import of_manifest
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import Settings, families

NOT_TRAINED = "evaluation/"
"""The folder of what the gate measured. It depends on the champion of the day, so it is not compared."""


def main() -> None:
    """Train again and compare; exits with 1 where a file differs."""
    parser = argparse.ArgumentParser(prog="make reproduce", description=__doc__)
    parser.add_argument("release", help="family/version, as `make lineage` prints it")
    parser.add_argument("--deployment", choices=("dev", "prod"), default="prod")
    arguments = parser.parse_args()
    family, _, version = arguments.release.partition("/")
    if family not in families() or not version:
        parser.error(f"expected <family>/<version> with a family of {', '.join(families())}, got {arguments.release!r}")
    settings = Settings()
    try:
        manifest = Staging(settings.staging_url(arguments.deployment)).manifest(family, version)
    except ReleaseError as error:
        sys.exit(f"{error} Those that are live: make lineage")
    if not manifest.code:
        print("note: its code was not kept yet when it was trained: it is trained again with the checkout's")
    with tempfile.TemporaryDirectory() as scratch:
        train_again(manifest, Path(scratch), settings.input_staging_url("prod"))
        differing = differences(manifest, Path(scratch))
    for line in differing:
        print(line)
    same = len(trained_files(manifest)) - len(differing)
    print(f"{arguments.release}: {same} of {len(trained_files(manifest))} files are the same, bit for bit")
    sys.exit(1 if differing else 0)


def train_again(manifest: ReleaseManifest, folder: Path, upstream: str) -> None:
    """Train from the same data with the same parameters, and write the result into `folder`.

    `upstream` is the URL of the staging area that holds the releases which a ranker learned from.
    """
    ops = importlib.import_module(f"repos.{manifest.family}.ops")
    parameters = ops.TrainConfig(**manifest.parameters)
    write_trained(ops.fit(of_manifest(manifest, upstream), parameters, print), folder)


def trained_files(manifest: ReleaseManifest) -> dict[str, str]:
    """The files that the training made, with their SHA-256."""
    return {entry.path: entry.sha256 for entry in manifest.files if not entry.path.startswith(NOT_TRAINED)}


def differences(manifest: ReleaseManifest, folder: Path) -> list[str]:
    """A line for each file of the release that is missing in `folder` or differs there."""
    lines = []
    for path, expected in trained_files(manifest).items():
        actual = storage.sha256(folder / path) if (folder / path).is_file() else "missing"
        if actual != expected:
            lines.append(f"{path}: expected SHA-256 {expected}, got {actual}")
    return lines


if __name__ == "__main__":
    main()
