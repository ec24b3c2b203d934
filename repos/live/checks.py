"""Asset checks of the proposed and the live set that can be run again at any time from the UI."""

from dagster import AssetCheckResult, AssetChecksDefinition, MetadataValue, asset_check

from shared_ops.pipeline.checks import code_check
from shared_ops.pipeline.lineage import live_set_key, proposed_set_key
from shared_ops.release.agreement import disagreements
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import DEPLOYMENTS, Deployment, current, ranking_families, repository_of

END_TO_END = "end_to_end"
"""The name of the check of a proposed set's final order."""
ANSWERS = "answers"
"""The name of the check of who answers."""


def live_set_checks() -> list[AssetChecksDefinition]:
    """The end-to-end gate's verdict on the newest accepted ranker, in each deployment.

    In prod, who answers, and whether the code that moves the live set loads.
    """
    verdicts = [_end_to_end(deployment) for deployment in DEPLOYMENTS]
    return [*verdicts, _answers(), code_check(repository_of(__name__), live_set_key("prod"))]


def _answers() -> AssetChecksDefinition:
    @asset_check(
        asset=live_set_key("prod"),
        name=ANSWERS,
        description="Whether the services answer with the live set's releases, each in the code and environment that "
        "its manifest names.",
    )
    def answers() -> AssetCheckResult:
        problems = disagreements(current())
        return AssetCheckResult(passed=not problems, description="; ".join(problems) or None)

    return answers


def _end_to_end(deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=proposed_set_key(deployment),
        name=END_TO_END,
        description="The verdict on the final order of the newest proposed set. Run it to read it again.",
    )
    def end_to_end() -> AssetCheckResult:
        url = current().staging_url(deployment)
        versions = filter(None, map(Staging(url).accepted, ranking_families()))
        decisions = filter(None, map(LiveSets(url).decision, sorted(versions, reverse=True)))  # they sort by time
        decision = next(decisions, None)
        if decision is None:
            return AssetCheckResult(passed=False, description=f"No set was decided upon in {deployment}.")
        return AssetCheckResult(
            passed=decision.accepted,
            description=decision.reason,
            metadata={"decision": MetadataValue.json(decision.model_dump(mode="json"))},
        )

    return end_to_end
