"""Tells people what happened: a log line always, and a message to every address of SEARCHLOOP_NOTIFY.

apprise speaks to webhooks, mail and the chats of the day, one URL each. Knows no Dagster.
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
"""How long the addresses may take, all together: who notifies has other work."""
logger = logging.getLogger("shared_ops.notifications")


def notify(title: str, body: str, level: Level = "info") -> None:
    """Log a message, and send it to every address; one that cannot be delivered is an error in the log alone."""
    logger.log(LOG_LEVELS[level], "%s: %s", title, body)
    try:
        _send(current().notify.split(), title, body, level)
    except Exception:  # a service that is away, or misread, must not fail the run that tells of something
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
