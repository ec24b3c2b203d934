"""`python -m services.search`: the search app, in its own environment."""

from services.search.app import create_app
from services.settings import ServiceSettings
from services.web import serve


def main() -> None:
    """Serve the search app until told to end."""
    settings = ServiceSettings()
    serve(create_app(settings), settings.host, settings.ports["search"])


if __name__ == "__main__":
    main()
