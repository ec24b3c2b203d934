# environment: platform
"""What Dagster costs: a prod run of a family, beside a plain script that calls its functions in the same environment.

    envs/platform/.venv/bin/python -m bench.orchestration

Needs a running stack (`make up`). The family is the first that searches. Both train on the latest snapshot and do all
that a run does: read and check the inputs, train, write, evaluate beside the accepted release, judge, report. The run
is launched through Dagit with `force`, so it leaves a release in staging, and the ranker follows, as always.
"""

import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from bench._figures import where
from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.training import ENDED, FORCE, job_of
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.settings import ROOT, Settings, python_of, repositories, search_families
from shared_ops.waiting import until

FAMILY = search_families()[0]


def main() -> None:
    """Measure both and print."""
    settings = Settings()
    if LiveSets(settings.staging_url("prod")).live() is None:
        sys.exit(NOTHING_LIVE)
    print(where())
    script, run = in_a_script(), launched(Dagit(settings.url("dagit")))
    print(f"script {script:5.1f} s   run {run:5.1f} s   difference {run - script:4.1f} s")


def in_a_script() -> float:
    """Seconds that a fresh Python in the family's environment takes to do what the run does."""
    python = python_of(repositories()[FAMILY].environment)
    began = time.perf_counter()
    subprocess.run([str(python), "-m", "bench.orchestration", "--script"], cwd=ROOT, check=True)
    return time.perf_counter() - began


def launched(dagit: Dagit) -> float:
    """Seconds from launching a run through Dagit to its end."""
    began = time.perf_counter()
    run_id = dagit.launch(FAMILY, job_of(FAMILY), FORCE)
    status = until(lambda: dagit.run(run_id).status, lambda each: each in ENDED, every=0.2)
    if status != "SUCCESS":
        sys.exit(f"The run ended {status}: {dagit.url}/runs/{run_id}")
    return time.perf_counter() - began


def script() -> None:
    """The functions of the family's run, one after the other."""
    from shared_ops.data.snapshots import load
    from shared_ops.judge import gating
    from shared_ops.judge.evaluation import evaluate, per_query, slice_members
    from shared_ops.judge.latency import medians
    from shared_ops.judge.report import report
    from shared_ops.judge.training import SearchAnswers
    from shared_ops.pipeline.ops import write_trained
    from shared_ops.pipeline.resources import PROD
    from shared_ops.pipeline.types import check_inputs
    from shared_ops.release import inputs

    model, ops = (import_module(f"repos.{FAMILY}.{name}") for name in ("model", "ops"))
    data = inputs.find(FAMILY, PROD.snapshots, PROD.feedback.latest(), PROD.staging)
    assert check_inputs(data).success
    trained = ops.fit(data, ops.TrainConfig(), lambda line: None)
    with tempfile.TemporaryDirectory() as scratch:
        write_trained(trained, Path(scratch))
        snapshot, version = load(data.snapshot), PROD.staging.accepted(FAMILY)
        assert version is not None
        challenger, _ = evaluate(trained.hits["test"], snapshot, "test")
        accepted = PROD.staging.fetch(FAMILY, version)
        models = {
            "challenger": SearchAnswers(model.load(Path(scratch))),
            "champion": SearchAnswers(model.load(accepted)),
        }
    champion = per_query(models["champion"].many(snapshot.queries("test")), snapshot.qrels("test"))
    took = medians(models, snapshot.queries("test"))
    latency = gating.Latency(challenger_ms=took["challenger"], champion_ms=took["champion"])
    members = slice_members(snapshot)
    verdict = gating.judge(challenger, champion, members, gating.GatePolicy(), version, latency=latency)
    report(challenger, champion, members, dict(snapshot.queries().select("query_id", "text").iter_rows()), verdict)


if __name__ == "__main__":
    script() if "--script" in sys.argv else main()
