"""The ops of what a person decides over the loop: freeze, thaw, pin, unpin, and a set made live past the gate.

    freeze_live_set    thaw_live_set    pin_family    unpin_family    promote_chosen

Each does what a command does (make freeze, ...), by the same function, and is written into the sets' history.
"""

from collections.abc import Callable

from dagster import Config, OpExecutionContext, op
from pydantic import Field

from repos.live.ops import POOL, log_answers, materialize_live_set
from shared_ops.pipeline.references import BECAUSE, BY_HAND
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.release import overrides
from shared_ops.release.livesets import LiveSets


class WhyConfig(Config):
    """Who decided it and why."""

    by: str = Field(default="", description="the person; empty: this run")
    why: str = Field(default="", description="the reason; empty: why the run was started, by its tag")

    def of(self, context: OpExecutionContext) -> tuple[str, str]:
        """Who and why."""
        return self.by or f"run {context.run_id[:8]}", self.why or context.get_tag(BECAUSE) or BY_HAND


class PinConfig(WhyConfig):
    """Which family is to stay at which release."""

    family: str = Field(description="the family")
    version: str = Field(default="", description="its release; empty: the live one")


class UnpinConfig(WhyConfig):
    """Whose pin is to end."""

    family: str = Field(description="the family")


class PromoteChosenConfig(WhyConfig):
    """Which set is to go live: one that was taken back, or that of a ranker's release."""

    why: str = Field(description="the reason; the end-to-end gate is not asked")
    set_number: int = Field(default=0, ge=0, description="the number of a set that was taken back; 0: none")
    releases: dict[str, str] = Field(
        default={}, description="family to version of a ranker's release, and of any that it learned from"
    )


@op
def freeze_live_set(context: OpExecutionContext, config: WhyConfig, deployment: DeploymentResource) -> None:
    """Keep the live set as it is; trainings go on."""
    _hold(context, deployment, lambda sets: overrides.freeze(sets, *config.of(context)))


@op
def thaw_live_set(context: OpExecutionContext, config: WhyConfig, deployment: DeploymentResource) -> None:
    """End the freeze: what is accepted by now is promoted as any other."""
    _hold(context, deployment, lambda sets: overrides.thaw(sets, *config.of(context)))


@op
def pin_family(context: OpExecutionContext, config: PinConfig, deployment: DeploymentResource) -> None:
    """Keep a family at a release."""
    version = config.version or None
    _hold(context, deployment, lambda sets: overrides.pin(sets, config.family, version, *config.of(context)))


@op
def unpin_family(context: OpExecutionContext, config: UnpinConfig, deployment: DeploymentResource) -> None:
    """End a family's pin."""
    _hold(context, deployment, lambda sets: overrides.unpin(sets, config.family, *config.of(context)))


def _hold(context: OpExecutionContext, deployment: DeploymentResource, act: Callable[[LiveSets], str]) -> None:
    note = act(deployment.live_sets)
    context.log.info(note)
    if live := deployment.live_sets.live():
        materialize_live_set(context, deployment, live, {}, note)


@op(pool=POOL)
def promote_chosen(context: OpExecutionContext, config: PromoteChosenConfig, deployment: DeploymentResource) -> None:
    """Make live a set that a person has chosen, past the end-to-end gate, but not past the services' checks."""
    by, why = config.of(context)
    live = overrides.promote_chosen(
        deployment.live_sets,
        deployment.input_snapshots,
        number=config.set_number or None,
        releases=list(config.releases.items()),
        note=f"promotion by {by}: {why}",
        services=deployment.services,
        log=context.log.info,
    )
    materialize_live_set(context, deployment, live, {}, f"promotion by {by}: {why}")
    log_answers(context, deployment)
