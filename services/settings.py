"""The settings of the services: SEARCHLOOP_* variables beside those that every process of a stack reads."""

from pydantic import Field

from shared_ops.settings import Settings


class ServiceSettings(Settings):
    """How the prediction services and the search app answer. Each field is read from SEARCHLOOP_<FIELD>."""

    model_timeout_ms: int = Field(default=300, ge=1, description="how long the search app waits for a model")
    model_patience_ms: int = Field(
        default=3000, ge=1, description="how long it waits for hits where no search model has given any in that time"
    )
    # The longest query of the collections developed on has 2,083 characters.
    query_max_characters: int = Field(default=5000, ge=1, le=5000, description="a longer query is refused")
    waiting_limit: int = Field(default=16, ge=1, description="requests that may wait for one model before it is busy")
    poll_seconds: float = Field(default=0.5, gt=0, description="how often the live and the proposed set are read")
    grace_seconds: float = Field(default=60, ge=0, description="how long a set that was replaced is still answered")
    feedback: bool = Field(default=True, description="whether searches and clicks are recorded")
    ship_seconds: float = Field(default=1, gt=0, description="how often what was recorded is sent to Postgres")
    retry_seconds: float = Field(default=10, gt=0, description="after which a failed load is tried again")
