"""`python -m services.prediction <family>`: serve one family's staged models, in that family's environment.

The stack starts it as a worker: with a socket, and the code and environment that its releases have to be made with.
"""

import argparse
import logging
import sys
from pathlib import Path

from uvicorn import Config

from services import connections, web
from services.prediction.app import create_app, holder_of
from services.prediction.front import FrontServer
from shared_ops.release import codes
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings, families

logger = logging.getLogger("services.prediction")


def main() -> None:
    """Serve the family named on the command line until told to end."""
    parser = argparse.ArgumentParser(prog="python -m services.prediction", description=__doc__, allow_abbrev=False)
    parser.add_argument("family", choices=list(families()))
    parser.add_argument("--socket", type=Path, help="where a worker answers; the port too while its release is live")
    parser.add_argument("--port", type=int, help="the family's port, if not that of repos.toml; 0 for none")
    parser.add_argument("--code", default="", help="the hash of the code that its releases were made with")
    parser.add_argument("--environment", default="", help="the SHA-256 of the lock that they were made with")
    # A stack of a later version may run this code, and pass arguments that it does not know.
    arguments, unknown = parser.parse_known_args()
    settings, family = Settings(), arguments.family
    web.log_lines()
    if unknown:
        logger.warning("Not known to this code, and left out: %s", " ".join(unknown))
    port = settings.ports[family] if arguments.port is None else arguments.port
    if arguments.socket is None:
        web.serve(create_app(family, settings, holder_of(family, settings)), settings.host, port)
        return
    runtime = Runtime(family, arguments.code, arguments.environment)
    if runtime.code and (loaded := codes.present(family)) != runtime.code:
        sys.exit(f"This process would run the code {loaded[:12]}, and its releases were made with {runtime.code[:12]}.")
    holder = holder_of(family, settings, runtime)
    config = Config(create_app(family, settings, holder, runtime), uds=str(arguments.socket), **web.SERVER)
    connections.run(FrontServer(config, lambda: bool(port) and holder.leads(), settings.host, port))


if __name__ == "__main__":
    main()
