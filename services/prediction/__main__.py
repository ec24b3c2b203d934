"""`python -m services.prediction <family>`: serve one family's staged model, in that family's environment."""

import argparse

from services.prediction.app import create_app
from services.web import serve
from shared_ops.settings import Settings, families


def main() -> None:
    """Serve the family named on the command line until told to end."""
    parser = argparse.ArgumentParser(prog="python -m services.prediction", description=__doc__)
    parser.add_argument("family", choices=list(families()))
    family = parser.parse_args().family
    settings = Settings()
    serve(create_app(family, settings), settings.host, settings.ports[family])


if __name__ == "__main__":
    main()
