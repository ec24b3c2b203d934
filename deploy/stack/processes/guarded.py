"""A code server in which code that does not load never replaces code that works.

`dagster code-server start` is a proxy in front of an inner server, which holds the code. Where it is to reload,
Dagster's own has another inner server load the code and ends the one of before, whatever the new one says: a mistake
takes a location's jobs, sensors and schedules away. Here the new one is asked first for what Dagit will ask it for, and
where it has no answer it is ended, and the one of before goes on. What was wrong is kept in
`<home>/code/<location>.json` until a load succeeds, and Dagit is told of each reload as the asset check `code_loads`.
While somebody works on the code, a reload takes a process that is warm already (spare.py).

Needs Dagster and Python's own library alone: it runs in every environment, whatever else is broken there.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster._api.list_repositories import sync_list_repositories_grpc
from dagster._core.errors import DagsterUserCodeProcessError, DagsterUserCodeUnreachableError
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositoryErrorSnap, RepositorySnap
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.client import DagsterGrpcClient, client_heartbeat_thread
from dagster._grpc.proxy_server import DagsterProxyApiServicer
from dagster._serdes import deserialize_value
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_shared.error import SerializableErrorInfo

from deploy.stack.processes import spare

CHECK = "code_loads"
"""The name of the asset check by which a location tells Dagit whether its code loads (shared_ops.pipeline.checks)."""
REPORT_SECONDS = 300
"""How long Dagit is tried to be told: it starts after the code servers."""
PAUSE_SECONDS = 5
FRAME = re.compile(r'File "(.+?)", line (\d+)')


class NotLoadedError(RuntimeError):
    """Code does not load, and the inner server of before goes on."""


class GuardedServicer(DagsterProxyApiServicer):
    """Dagster's proxy, which goes on with the inner server that it has until another one has loaded the code."""

    _report: object = None
    """The newest report to Dagit; one that is tried still gives way to it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        from dagster._grpc import server

        self._spare = spare.Spare(spare.modules_file(options["location_name"]))
        server.open_ipc_subprocess = self._spare.opened(server.open_ipc_subprocess)  # type: ignore[attr-defined]
        super().__init__(*arguments, **options)

    def Heartbeat(self, request: Any, context: Any) -> Any:  # noqa: N802
        """As Dagster's own; and hold a spare for a while where the heartbeat says that somebody works on the code."""
        if request.echo == spare.HEARTBEAT:
            self._spare.hold()
            if not self._reload_lock.locked():  # else what is being loaded comes first, and a spare after it
                self._spare.replenish()
        return super().Heartbeat(request, context)  # type: ignore[no-untyped-call]

    def cleanup(self) -> None:
        """As Dagster's own, which is called when the code server ends; and end the spare."""
        self._spare.let_go()
        super().cleanup()  # type: ignore[no-untyped-call]

    def ReloadCode(self, request: Any, context: Any) -> dagster_api_pb2.ReloadCodeReply:  # noqa: N802
        """As Dagster's own, which waits for another reload to end; where the code does not load, nothing changes."""
        try:
            reply: dagster_api_pb2.ReloadCodeReply = super().ReloadCode(request, context)  # type: ignore[no-untyped-call]
            return reply
        except NotLoadedError as error:
            self._logger.error("The code of before goes on, as what it was to be replaced by does not load: %s", error)
            return dagster_api_pb2.ReloadCodeReply()
        finally:
            self._spare.replenish()

    def _reload_location(self) -> None:
        """A replacement of Dagster's method: have another inner server load the code, and use it.

        Raises:
            NotLoadedError: where the code does not load, and that of the present inner server does.
        """
        starts, kept = self._client is None, self._loaded()
        if kept is not None:
            self._replace(kept)
            return
        super()._reload_location()  # type: ignore[no-untyped-call]
        was_refused = self._forget()
        if was_refused or not starts:  # else nothing has changed that Dagit knows
            self._tell_dagit(self._loaded() or [], None)

    def _replace(self, kept: Sequence[RepositorySnap]) -> None:
        """Use another inner server, once it has loaded the code, in place of that with the definitions `kept`.

        Raises:
            NotLoadedError: where it does not load.
        """
        client = None
        try:
            client = self._grpc_server_registry.reload_grpc_endpoint(self._origin).create_client()
            loaded = self._definitions(client)
        except Exception:
            refused = self._refuse(serializable_error_info_from_exc_info(sys.exc_info()))
            if client:
                with suppress(DagsterUserCodeUnreachableError):  # it has ended by itself
                    client.shutdown_server()
            self._tell_dagit(kept, refused)
            raise NotLoadedError(": ".join(filter(None, (refused["place"], refused["message"])))) from None
        self._switch(client)
        self._forget()
        self._tell_dagit(loaded, None)

    def _switch(self, client: DagsterGrpcClient) -> None:
        """Use this inner server from now on; who called this ends the one of before."""
        ended = threading.Event()
        thread = threading.Thread(
            target=client_heartbeat_thread, args=(client, ended), name="grpc-client-heartbeat", daemon=True
        )
        # Attributes of Dagster's, which does not state their types.
        vars(self).update(_load_error=None, _client=client)
        vars(self).update(_client_heartbeat_shutdown_event=ended, _client_heartbeat_thread=thread)
        thread.start()

    def _loaded(self) -> list[RepositorySnap] | None:
        """The definitions of the present inner server; None where there is none, or its code does not load."""
        with suppress(DagsterUserCodeProcessError, DagsterUserCodeUnreachableError):
            return self._definitions(self._client) if self._client else None
        return None

    def _definitions(self, client: DagsterGrpcClient) -> list[RepositorySnap]:
        """The definitions of an inner server, with all jobs, as Dagit asks for them.

        Raises:
            DagsterUserCodeProcessError: where its code does not load, or a definition does not resolve.
            DagsterUserCodeUnreachableError: where it does not answer.
        """
        symbols = sync_list_repositories_grpc(client).repository_symbols
        return [self._definitions_of(client, symbol.repository_name) for symbol in symbols]

    def _definitions_of(self, client: DagsterGrpcClient, repository: str) -> RepositorySnap:
        asked = client.external_repository(RemoteRepositoryOrigin(self._origin, repository))
        answer = deserialize_value(asked, (RepositorySnap, RepositoryErrorSnap))
        if isinstance(answer, RepositoryErrorSnap):
            raise DagsterUserCodeProcessError.from_error_info(answer.error)  # type: ignore[no-untyped-call]
        return answer

    @property
    def _record(self) -> Path | None:
        """The file that says why this location's newest code was not taken; None outside a stack."""
        home = os.environ.get("SEARCHLOOP_HOME")
        return Path(home, "code", f"{self._location_name}.json") if home and self._location_name else None

    def _refuse(self, error: SerializableErrorInfo) -> dict[str, Any]:
        """Keep what keeps the code from loading; a disk that takes nothing keeps nothing else from going on."""
        message, place = message_and_place(error, self._loadable_target_origin)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        refused = {"location": self._location_name, "at": at, "place": place, "message": message}
        if self._record:
            try:
                self._record.parent.mkdir(parents=True, exist_ok=True)
                written = self._record.with_suffix(".unfinished")
                written.write_text(json.dumps(refused, indent=2, ensure_ascii=False) + "\n")
                written.replace(self._record)
            except OSError:
                self._logger.exception("What is wrong with the code could not be kept in %s", self._record)
        return refused

    def _forget(self) -> bool:
        """Remove what was kept of code that was not taken; returns whether there was any."""
        try:
            if self._record:
                self._record.unlink()
        except FileNotFoundError:
            return False
        except OSError:
            self._logger.exception("%s could not be removed", self._record)
        return self._record is not None

    def _tell_dagit(self, repositories: Sequence[RepositorySnap], refused: dict[str, Any] | None) -> None:
        """Have Dagit keep whether the code loads, while this goes on: Dagit may wait for this very reload."""
        checks = [check for each in repositories for check in each.asset_check_nodes or [] if check.name == CHECK]
        if (url := os.environ.get("SEARCHLOOP_DAGIT_URL")) and checks:
            self._report = report = object()
            addresses = [f"{url}/report_asset_check/{'/'.join(check.asset_key.path)}" for check in checks]
            threading.Thread(target=self._try_to_tell, args=(report, addresses, refused), daemon=True).start()

    def _try_to_tell(self, report: object, addresses: Sequence[str], refused: dict[str, Any] | None) -> None:
        told_by = time.monotonic() + REPORT_SECONDS
        while self._report is report:
            try:
                for address in addresses:
                    post(address, {"check_name": CHECK, "passed": refused is None, "metadata": refused or {}})
                return
            except OSError as error:
                if time.monotonic() > told_by:
                    self._logger.error("Dagit was not told whether the code loads: %s", error)
                    return
                time.sleep(PAUSE_SECONDS)


def post(address: str, content: dict[str, Any]) -> None:
    """Send JSON to an address of this machine.

    Raises:
        OSError: where it does not answer, or refuses.
    """
    from http.client import HTTPException
    from urllib.request import ProxyHandler, Request, build_opener

    request = Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    try:
        build_opener(ProxyHandler({})).open(request, timeout=60).close()
    except HTTPException as error:
        raise OSError(f"{address} gave no answer ({error})") from error


def message_and_place(error: SerializableErrorInfo, target: LoadableTargetOrigin) -> tuple[str, str | None]:
    """The words of an error of loading a target, and the place in its folder's code as `file:line`, if there is one.

    The words are those of the code's own error: Dagster's, which wrap it, add nothing. Where a definition does not
    resolve no line of the code is at work, and the place is where the target's definitions are made.
    """
    chain = list(_with_causes(error))
    own = next((each for each in chain if not each.message.startswith("dagster.")), chain[-1])
    words = own.message.strip()
    if words.startswith("File "):  # a syntax error, whose own words begin with its place
        words = words.splitlines()[-1]
    folder = Path(target.working_directory or "").absolute()
    frames = [(Path(file), line) for text in (*own.stack, own.message) for file, line in FRAME.findall(text)]
    inside = [each for each in frames if each[0].is_relative_to(folder) and "site-packages" not in each[0].parts]
    if inside:
        return words, f"{inside[-1][0].relative_to(folder)}:{inside[-1][1]}"
    return words, _made(target, folder) if own.message.startswith("dagster.") else None


def _with_causes(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error:
        yield error
        error = error.cause or error.context


def _made(target: LoadableTargetOrigin, folder: Path) -> str | None:
    """Where a target's definitions are made, by the name that they have by convention; None where none has it."""
    file = f"{(target.module_name or '').replace('.', '/')}.py"
    with suppress(OSError):
        for number, line in enumerate((folder / file).read_text().splitlines(), start=1):
            if re.match(r"(def )?defs\b", line):
                return f"{file}:{number}"
    return None


def guard() -> None:
    """Have the code servers that this process runs be guarded."""
    from dagster._grpc import proxy_server

    proxy_server.DagsterProxyApiServicer = GuardedServicer  # type: ignore[misc]
