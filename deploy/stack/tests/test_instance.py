"""The Dagster instance of a stack, on the real embedded Postgres."""

import os
import subprocess
import sys

from dagster import DagsterInstance

from deploy.stack import instance
from deploy.stack.processes import environment_variables
from deploy.stack.tests.test_postgres import serving
from shared_ops.settings import ROOT, Settings, repositories


def test_it_is_made_ready_again_and_again_and_knows_every_pool(tmp_path, monkeypatch):
    """As by the second `make up`, and by one in whose life a repository was added."""
    settings = Settings(home=tmp_path, postgres_url=None)
    variables = environment_variables(settings)
    instance.place(settings)
    with serving(settings):
        for _ in range(2):
            command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.instance"]
            done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with DagsterInstance.get() as made:
            limits = {pool.name: pool.limit for pool in made.event_log_storage.get_pool_limits()}
    assert limits == dict.fromkeys(repositories(), 1)
