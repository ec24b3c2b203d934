"""Who asks, as far as this app wants to know: a random id of a session, and the application that it comes through."""

import re
from typing import NamedTuple
from uuid import uuid4

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.door import from_another_site

COOKIE = "session"
APPLICATION = "searchloop"

APPLICATION_PATTERN = r"^[a-z0-9._-]{1,100}$"
ID_PATTERN = r"^[A-Za-z0-9_-]{1,100}$"
"""Of the ids of sessions, searches and events. It admits neither an e-mail nor an internet address."""


class Visitor(NamedTuple):
    """What is recorded of who asks."""

    session: str
    application: str
    recorded: bool
    """Whether the request is recorded, as something that a person wanted.

    Not recorded are requests with Global Privacy Control (Sec-GPC: 1), which people's browsers and our own tools may
    send; requests that another site's page has a browser send; and a HEAD, whose answer nobody sees.
    """


def visitor(request: Request) -> Visitor:
    """Who sends a request, by the headers x-session-id and x-application, or the page's cookie; else a new session.

    Raises:
        HTTPException: 422 when a header is not of its form.
    """
    application = _header(request, "x-application", APPLICATION_PATTERN) or APPLICATION
    session = _header(request, "x-session-id", ID_PATTERN) or _from_cookie(request) or uuid4().hex
    private = request.headers.get("sec-gpc") == "1"
    recorded = not (private or request.method == "HEAD" or from_another_site(request.headers))
    return Visitor(session, application, recorded)


def remember(request: Request, response: Response, who: Visitor) -> None:
    """Give the browser a cookie of its session, which lasts until it is closed; one that it has already stays."""
    if _from_cookie(request) != who.session:
        response.set_cookie(
            COOKIE, who.session, httponly=True, samesite="lax", secure=request.scope["scheme"] == "https"
        )


def _header(request: Request, name: str, pattern: str) -> str | None:
    value = request.headers.get(name)
    if value is not None and not re.fullmatch(pattern, value):
        raise HTTPException(422, f"{name}: expected {pattern}, got {value[:100]!r}.")
    return value


def _from_cookie(request: Request) -> str | None:
    """The session in the cookie, if this app gave it."""
    value = request.cookies.get(COOKIE, "")
    return value if re.fullmatch(r"[0-9a-f]{32}", value) else None
