"""A stack of one team's part alone: the data's repository and the team's own, with their environments and no other."""

from pathlib import Path

import pytest

from deploy.stack.dagit.client import Dagit
from shared_ops.release.releases import Staging
from tests.conftest import own_stack

pytestmark = pytest.mark.slow


def test_a_part_of_the_repositories_comes_up_and_trains_to_an_accepted_release_without_the_rest(tmp_path: Path) -> None:
    made = own_stack(tmp_path / "home")
    try:
        said = made.make("up", "REPOS=corpus keyword").stdout
        version = Staging(made.settings.staging_url("prod")).accepted("keyword")
        assert version and f"accepted: keyword/{version}" in said
        assert "no search is waited for: no set goes live without live, semantic, behavior, ranker" in said
        assert Dagit(made.settings.url("dagit")).load_errors() == {"corpus": None, "keyword": None}
        status = made.make("status").stdout
        assert "this stack runs corpus, keyword alone" in status and "code-behavior" not in status
        assert "keyword_dev ended: SUCCESS, accepted" in made.make("train", "REPO=keyword", "DEPLOYMENT=dev").stdout
        assert Staging(made.settings.staging_url("prod")).versions("keyword") == [version]
        assert "keyword_notebook.py" in made.make("notebook", "REPO=keyword").stdout
    finally:
        made.make("down", check=False)
