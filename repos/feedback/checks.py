"""Asset checks of the latest feedback that can be run again at any time from the UI."""

from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, asset_check

from repos.feedback.ops import BURSTS, burst_check
from shared_ops.data.feedback import Feedback, Feedbacks
from shared_ops.pipeline.checks import code_check
from shared_ops.pipeline.lineage import feedback_key
from shared_ops.settings import DEPLOYMENTS, Deployment, current, repository_of


def feedback_checks() -> list[AssetChecksDefinition]:
    """A check of each deployment's feedback: whether sessions were left out as a burst. In prod, whether code loads."""
    bursts = [_bursts(deployment) for deployment in DEPLOYMENTS]
    return [*bursts, code_check(repository_of(__name__), feedback_key("prod"))]


def _bursts(deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=feedback_key(deployment),
        name=BURSTS,
        description="Whether too many sessions of one query or one document came. Run it to read the latest's again.",
    )
    def bursts() -> AssetCheckResult:
        latest = Feedbacks(current().feedback_url(deployment)).latest()
        if latest is None:
            return AssetCheckResult(passed=True, description=f"There is no feedback in {deployment} yet.")
        return AssetCheckResult(severity=AssetCheckSeverity.WARN, **burst_check(Feedback(latest).manifest()))

    return bursts
