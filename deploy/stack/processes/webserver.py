"""Dagit behind a door: Dagster's webserver, which refuses what other sites' pages ask of it.

Dagster's own command answers a GraphQL mutation of any origin: as a form's POST, with the query in the URL, or by a
name that leads to this machine. Any page that is opened while a stack runs could launch runs. Run by the supervisor in
place of `dagster-webserver` (`python -m deploy.stack.processes.webserver`), with the stack's variables in its
environment.
"""

import logging
import threading
import time
from collections.abc import Callable

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.stack.processes.paced import FileWatch, pace
from deploy.stack.processes.places import workspace
from services.connections import IDLE_SECONDS, BoundedProtocol, serve
from services.door import from_another_site, wrong_name
from shared_ops.settings import Settings

logger = logging.getLogger("deploy.stack.processes.webserver")
GRAPHQL = "/graphql"
LOOK_SECONDS = 2
"""Between two looks at whether workspace.yaml has changed."""


class _Door:
    """Answers what `refusal` refuses with 403 and the reason; hands everything else to `app`."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = refusal(scope, self._host) if scope["type"] in ("http", "websocket") else None
        await (PlainTextResponse(f"{reason}\n", 403) if reason else self._app)(scope, receive, send)


def refusal(scope: Scope, host: str) -> str | None:
    """Why the server on `host` does not answer a request or a WebSocket, in words; None where it does.

    Another site's page may link to Dagit, but may neither change anything nor ask GraphQL.
    """
    headers = Headers(scope=scope)
    if reason := wrong_name(headers, host):
        return reason
    reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] != GRAPHQL
    if not reads and from_another_site(headers):
        return "Dagit takes this from its own page, and from clients that are no browsers."
    # Not every browser says for which page it gets an address, such as an image's.
    if scope["path"] == GRAPHQL and "query" in QueryParams(scope.get("query_string", b"")):
        return "Dagit takes a GraphQL query in the body of a POST, as application/json, and none in the URL."
    return None


def _follow(changed: Callable[[], bool], refresh: Callable[[], None]) -> None:
    """Take up the code locations that `make up` adds or takes away, for as long as this process lives."""
    due = False
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            if due := due or changed():
                refresh()
            due = False
        except Exception:  # a code server may be away just then: the next look tries it again
            logger.exception("The code locations could not be loaded anew")


def main() -> None:
    """Serve Dagit on the stack's port until told to end."""
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster._utils.interrupts import setup_interrupt_handlers
    from dagster._utils.log import configure_loggers
    from dagster_webserver import cli
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__
    from uvicorn import Config

    settings = Settings()
    configure_loggers()
    setup_interrupt_handlers()
    pace()
    with DagsterInstance.get() as instance:
        pool = cli.DEFAULT_DB_STATEMENT_TIMEOUT, cli.DEFAULT_POOL_RECYCLE, cli.DEFAULT_POOL_MAX_OVERFLOW
        instance.optimize_for_webserver(*pool)
        placed = workspace(settings)
        changed = FileWatch(placed)  # first: what changes while it is loaded is followed, too
        with WorkspaceProcessContext(instance, WorkspaceFileTarget([str(placed)]), version=__version__) as context:
            threading.Thread(target=_follow, args=(changed, context.refresh_workspace), daemon=True).start()
            app = create_app_from_workspace_process_context(context)
            app.add_middleware(_Door, host=settings.host)
            serve(
                Config(
                    app,
                    host=settings.host,
                    port=settings.ports["dagit"],
                    http=BoundedProtocol,
                    timeout_keep_alive=IDLE_SECONDS,
                    timeout_graceful_shutdown=5,
                    log_level="warning",
                )
            )


if __name__ == "__main__":
    main()
