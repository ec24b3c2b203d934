"""Makes the files that follow from the list of the repositories: workspace.yaml and .github/CODEOWNERS.

Run as `python -m deploy.generate [--check]` in envs/platform. What runs is made from the list when it starts
(`stack/processes/listing.py`); the borders between repositories (`pyproject.toml`) hold for whatever lies in repos/.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping
from difflib import unified_diff

from shared_ops.settings import LIST, ROOT, ListError, Repository, code_port_variable, repositories

PLATFORM = "@searchloop/platform"
"""Who owns what belongs to no repository, and what several teams share."""
WORKSPACE, OWNERS = "workspace.yaml", ".github/CODEOWNERS"
MADE = f"Made from {LIST} by `make generate`: change the list, not this file."


def files(listed: Mapping[str, Repository]) -> dict[str, str]:
    """The generated files of a list: path in the checkout to content."""
    return {WORKSPACE: workspace(listed), OWNERS: owners(listed)}


def workspace(listed: Mapping[str, Repository]) -> str:
    """The code locations that Dagit and the daemon load: one code server for each repository."""
    locations = [
        f"  - grpc_server:\n      location_name: {name}\n      host: {{ env: SEARCHLOOP_HOST }}\n"
        f"      port: {{ env: {code_port_variable(name)} }}\n"
        for name in listed
    ]
    head = "# The code locations that Dagit and the daemon load. `make up` sets the variables, from its own settings.\n"
    return f"# {MADE}\n{head}load_from:\n{''.join(locations)}"


def owners(listed: Mapping[str, Repository]) -> str:
    """One owner for each folder: a repository's, its environment's, and the platform's team for all others."""
    teams: dict[str, set[str]] = {}
    for repository in listed.values():
        teams.setdefault(repository.environment, set()).add(repository.owner)
    owner = {"*": PLATFORM} | {f"/repos/{name}/": repository.owner for name, repository in listed.items()}
    owner |= {f"/envs/{name}/": next(iter(its)) if len(its) == 1 else PLATFORM for name, its in teams.items()}
    width = max(map(len, owner))
    return f"# {MADE}\n" + "".join(f"{folder:<{width}}  {its}\n" for folder, its in owner.items())


def write() -> list[str]:
    """Write the generated files that are not what the list comes to; returns their paths."""
    changed = [name for name, content in files(repositories()).items() if _present(name) != content]
    for name in changed:
        (ROOT / name).write_text(files(repositories())[name])
    return changed


def differences() -> Iterator[str]:
    """How the generated files differ from what the list comes to, as unified diffs; nothing where they do not."""
    for name, content in files(repositories()).items():
        lines = _present(name).splitlines(keepends=True), content.splitlines(keepends=True)
        yield from unified_diff(*lines, name, f"{name} by {LIST}")


def _present(name: str) -> str:
    return (ROOT / name).read_text() if (ROOT / name).exists() else ""


def refuse_unread() -> None:
    """Raises ListError where an entry says something that nothing reads, as by a misspelling."""
    for name, entry in tomllib.loads((ROOT / LIST).read_text()).items():
        if unread := sorted(entry.keys() - Repository.model_fields.keys()):
            expected = ", ".join(Repository.model_fields)
            raise ListError(f"{LIST}, {name}: nothing reads {', '.join(unread)}. Expected some of {expected}.")


def main() -> None:
    """Write the files, or with --check say how they differ from the list and fail."""
    parser = argparse.ArgumentParser(description=f"Make the files that follow from {LIST}.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not up to date")
    arguments = parser.parse_args()
    try:
        repositories()
        refuse_unread()
        if not arguments.check:
            print("\n".join(f"{name} written" for name in write()) or f"all is as {LIST} says")
        elif different := "".join(differences()):
            sys.exit(f"{different}make generate")
    except ListError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
