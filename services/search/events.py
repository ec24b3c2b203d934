"""What people do with an answer, as the page and other clients report it: POST /events, checked.

Of UBI's event the fields named here are taken and nothing else: no free text, no address, no user.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import uuid4

from fastapi import Request
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, field_validator
from starlette.exceptions import HTTPException

from services.door import from_another_site
from services.search.visitors import APPLICATION_PATTERN, ID_PATTERN, Visitor
from services.web import parse
from shared_ops.data.ubi import ClickedObject, EventAttributes, UbiEvent

MAX_BYTES = 64_000
"""Bytes of a request's body, at most."""

MAX_EVENTS = 100
CLOCK_TOLERANCE = timedelta(days=1)

Id = Annotated[str, Field(pattern=ID_PATTERN)]


class EventIn(BaseModel):
    """An event as a client sends it."""

    action_name: str = Field(pattern=r"^[a-z0-9._-]{1,100}$")
    query_id: Id
    event_attributes: EventAttributes
    event_id: Id | None = None
    timestamp: AwareDatetime | None = None
    application: str | None = Field(default=None, pattern=APPLICATION_PATTERN)
    session_id: Id | None = None
    client_id: Id | None = None

    @field_validator("event_attributes", mode="after")
    @classmethod
    def _of_a_document(cls, attributes: EventAttributes) -> EventAttributes:
        doc_id = attributes.object.object_id
        if "\0" in doc_id:
            raise ValueError("object.object_id: expected the id of a document, got one with a NUL character")
        return EventAttributes(object=ClickedObject(object_id=doc_id), position=attributes.position)

    @field_validator("timestamp", mode="after")
    @classmethod
    def _about_now(cls, timestamp: datetime | None) -> datetime | None:
        if timestamp is not None and abs(datetime.now(UTC) - timestamp) > CLOCK_TOLERANCE:
            raise ValueError("expected a time within a day of now; leave it out to have the server's")
        return timestamp

    def event(self, who: Visitor) -> UbiEvent:
        """The event as it is stored. What the client left out is filled in: its visitor's values, a new id, now."""
        session = self.session_id or self.client_id or who.session
        return UbiEvent(
            application=self.application or who.application,
            event_id=self.event_id or uuid4().hex,
            action_name=self.action_name,
            query_id=self.query_id,
            session_id=session,
            client_id=self.client_id or session,
            timestamp=self.timestamp or datetime.now(UTC),
            event_attributes=self.event_attributes,
        )


_ONE = TypeAdapter(EventIn)
_MANY = TypeAdapter(Annotated[list[EventIn], Field(max_length=MAX_EVENTS)])


async def read(request: Request, who: Visitor) -> list[UbiEvent]:
    """The events in a request: one, or a list of them. Where one is bad, none is taken.

    Raises:
        HTTPException: 403 when a browser sends it from another site's page: such a page must not count clicks in its
            visitors' names.
        RequestValidationError: when it is not JSON, or an event is not as expected.
    """
    if from_another_site(request.headers):
        raise HTTPException(403, "Events are taken from this app's own page, and from clients that are no browsers.")
    body = await request.body()
    events = parse(_MANY, body) if body.lstrip()[:1] == b"[" else [parse(_ONE, body)]
    return [event.event(who) for event in events]
