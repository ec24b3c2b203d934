"""What a sensor remembers between two ticks: a model that Dagster keeps as JSON. Knows no sensor."""

import logging
from typing import TypeVar

from pydantic import BaseModel, ValidationError

State = TypeVar("State", bound=BaseModel)


def restored(kind: type[State], cursor: str | None) -> State:
    """The state in a cursor; the initial state where there is no cursor, or another version of this code wrote it."""
    try:
        return kind.model_validate_json(cursor) if cursor else kind()
    except ValidationError as error:
        logging.getLogger(__name__).warning("The cursor is of another version, and starts anew: %s", error)
        return kind()
