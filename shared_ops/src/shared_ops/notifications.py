"""Tells people what happened: a log line always, and a message to every address of SEARCHLOOP_NOTIFY.

apprise sends it to webhooks, mail and chats; each address is one URL. Knows no Dagster.
"""

import logging
from typing import Literal

from shared_ops.settings import current

Level = Literal["info", "success", "warning", "failure"]
LOG_LEVELS: dict[Level, int] = {
    "info": logging.INFO,
    "success": logging.INFO,
    "warning": logging.WARNING,
    "failure": logging.ERROR,
}
SECONDS = 10
"""How long sending to all addresses together may take: the caller has other work."""
logger = logging.getLogger("shared_ops.notifications")


def notify(title: str, body: str, level: Level = "info") -> None:
    """Log a message, and send it to every address. A failed delivery is logged as an error and raises nothing."""
    logger.log(LOG_LEVELS[level], "%s: %s", title, body)
    try:
        _send(current().notify.split(), title, body, level)
    except Exception:  # a notification that cannot be sent must not fail the run that sends it
        logger.exception("The notification %r was not sent", title)


def _send(urls: list[str], title: str, body: str, level: Level) -> None:
    if not urls:
        return
    from apprise import Apprise, NotifyFormat

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs URLs that it cannot read, with their passwords
    services = Apprise()
    for number, url in enumerate(urls, start=1):
        if not services.add(url):
            logger.error("Address %d of SEARCHLOOP_NOTIFY is none that apprise knows: it gets no notifications", number)
    sent = services.notify(body, title, level, body_format=NotifyFormat.TEXT, timeout=SECONDS)
    for result in sent:
        if result.status.name != "SUCCESS":
            logger.error("The notification %r did not reach %s: %s", title, result.url, result.status.name)
