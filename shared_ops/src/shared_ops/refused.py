"""Code that a code server did not take, as it does not load: the server goes on with the code of before.

Each code server writes down why, and removes that once its code loads (deploy/stack/processes/guarded.py). Knows no
Dagster.
"""

from datetime import datetime

from pydantic import BaseModel, Field

from shared_ops.settings import Settings


class RefusedCode(BaseModel):
    """The newest code of a code location, which does not load."""

    location: str
    at: datetime = Field(description="when it was to be loaded")
    place: str | None = Field(description="file:line, from the checkout's root")
    message: str

    @property
    def told(self) -> str:
        """What is wrong, with its place."""
        return f"{self.place}: {self.message}" if self.place else self.message

    @property
    def sentence(self) -> str:
        """What runs instead, why, and what that means."""
        return (
            f"{self.location} runs the code of before, as that of {self.at:%Y-%m-%d %H:%M} UTC does not load: "
            f"{self.told}. Its sensors that start runs wait."
        )


def mended_by(location: str) -> str:
    """What a person does about a location's code that does not load, behind "mend it, then: "."""
    return f"make code-server REPO={location} (while make dev runs, a save is enough)"


def refused_code(location: str, settings: Settings) -> RefusedCode | None:
    """What keeps a location's newest code from loading; None where the location runs it, or has none that loads."""
    try:
        return RefusedCode.model_validate_json((settings.home / "code" / f"{location}.json").read_bytes())
    except FileNotFoundError:
        return None
