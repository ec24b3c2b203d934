"""Which requests a server accepts: by the host name that they call it by, and by the page that they come from.

A browser sends requests on behalf of any page that is open in it, and any page may have it ask a server on this
machine. Shared by the services and by Dagit's launcher. Knows no route and no framework but Starlette's headers.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")

OWN_SITES = ("same-origin", "none")
"""Sec-Fetch-Site of requests of the server's own page, and of addresses that a person typed or bookmarked."""


def wrong_name(headers: Headers, host: str) -> str | None:
    """Why a request is not meant for the server that listens on `host`, in words; None where it is.

    A page whose name was made to lead to this machine (DNS rebinding) has the same origin as its requests here: only
    the Host header gives it away. A client that sends no Host is no browser.
    """
    called = headers.get("host")
    if called is None or host in EVERY_ADDRESS or _name(called) in {host, *LOOPBACK}:
        return None
    return (
        f"Host: expected {host} or {LOOPBACK[1]}, got {called[:100]!r}. Ask this server by its address; a proxy in "
        f"front of it has to send Host: {host}."
    )


def from_another_site(headers: Headers) -> bool:
    """Whether a browser sends a request on behalf of a page of another origin, by the best header that says so.

    That is Sec-Fetch-Site, which is sent to https and to loopback; else Origin, which is sent with every POST and
    WebSocket; else Referer. Clients that are no browsers send none of them.
    """
    if site := headers.get("sec-fetch-site"):
        return site not in OWN_SITES
    page = headers.get("origin") or headers.get("referer")
    return page is not None and _host(page) != headers.get("host", "").lower()


def _host(url: str) -> str | None:
    """The host and port of an address as a Host header names them; None where it is no address."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:  # [ without ]
        return None


def _name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
