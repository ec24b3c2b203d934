"""A code location whose only job sleeps: the launcher's tests kill its runs. It holds no test."""

import time

from dagster import Config, Definitions, OpExecutionContext, in_process_executor, job, op


class Sleep(Config):
    """How long, and whether an interruption is heeded."""

    seconds: float
    stubborn: bool = False


@op
def sleep(context: OpExecutionContext, config: Sleep) -> None:
    until = time.monotonic() + config.seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.2)
        except BaseException:
            if not config.stubborn:
                raise
            context.log.info("an interruption that is not heeded")


@job(executor_def=in_process_executor)
def sleeper() -> None:
    sleep()


defs = Definitions(jobs=[sleeper])
