"""What a job runs against: one deployment's snapshots, staging area, live sets and services."""

from typing import cast, get_args

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field

from shared_ops.data.feedback import Feedbacks
from shared_ops.data.snapshots import Snapshots
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import DEPLOYMENTS, Deployment, current


class DeploymentResource(ConfigurableResource):  # type: ignore[type-arg] # an op is given this object itself
    """One deployment. Dev reads prod's snapshots and releases, and writes to its own areas alone."""

    name: str = Field(description="dev or prod: part of every asset key and of every URL that is written")
    reads: str = Field(default="prod", description="the deployment whose snapshots and releases are input")
    sample_documents: int = Field(default=0, description="train on a sample of this many documents; 0 takes all")
    services: bool = Field(description="whether prediction services answer with this deployment's live set")

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Refuse a configuration that leads a job out of its deployment: in the launchpad every field can be edited.

        Raises:
            ValueError: when a job of one deployment is given another, or prod is to learn from dev's data.
        """
        job = context.run.job_name if context.run else ""
        own = next((each for each in DEPLOYMENTS if job.endswith(f"_{each}")), self.deployment)
        given = {"name": self.name} | ({"reads": self.reads} if own == "prod" else {})
        if other := {field: value for field, value in given.items() if value != own}:
            stated = ", ".join(f"{field}: {value}" for field, value in other.items())
            raise ValueError(
                f"{job} works in {own} alone, and its configuration says {stated} (resources.deployment): leave that "
                "out, or launch the other deployment's job."
            )

    @property
    def deployment(self) -> Deployment:
        """The name, checked."""
        return _checked(self.name)

    @property
    def snapshots(self) -> Snapshots:
        """Where this deployment's snapshots are published."""
        return Snapshots(current().snapshots_url(self.deployment))

    @property
    def input_snapshots(self) -> Snapshots:
        """Where trainings find their snapshot."""
        return Snapshots(current().input_snapshots_url(_checked(self.reads)))

    def source(self, name: str) -> Snapshots:
        """Where this deployment's tables of a source's repository are published."""
        return Snapshots(current().source_url(self.deployment, name))

    @property
    def feedback(self) -> Feedbacks:
        """Where this deployment's feedback is published."""
        return Feedbacks(current().feedback_url(self.deployment))

    @property
    def input_feedback(self) -> Feedbacks:
        """Where trainings find what people clicked."""
        return Feedbacks(current().input_feedback_url(_checked(self.reads)))

    @property
    def staging(self) -> Staging:
        """Where this deployment's releases are published."""
        return Staging(current().staging_url(self.deployment))

    @property
    def input_staging(self) -> Staging:
        """Where the ranker finds the releases whose hits it learns from."""
        return Staging(current().input_staging_url(_checked(self.reads)))

    @property
    def live_sets(self) -> LiveSets:
        """The sets of this deployment."""
        return LiveSets(current().staging_url(self.deployment))


def _checked(name: str) -> Deployment:
    if name not in get_args(Deployment):
        raise ValueError(f"A deployment is one of {get_args(Deployment)}, not {name!r}.")
    return cast(Deployment, name)


DEV = DeploymentResource(name="dev", sample_documents=1_000, services=False)
PROD = DeploymentResource(name="prod", services=True)
