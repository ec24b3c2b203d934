"""`python -m services.search`: the search app, in its own environment."""

from services.search.app import create_app
from services.web import serve
from shared_ops.settings import Settings


def main() -> None:
    """Serve the search app until told to end."""
    settings = Settings()
    serve(create_app(settings), settings.host, settings.ports["search"])


if __name__ == "__main__":
    main()
