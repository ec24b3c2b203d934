"""A source needs a package while the stack runs: what the message says has the running code server read it.

The last drill with the copy of the checkout: it leaves another source behind, and ends the stack.
"""

import re

import pytest

from tests.conftest import Stack
from tests.drills.checkouts import Checkout

pytestmark = pytest.mark.slow

SOURCE = """\
  - kind: sql
    name: shop
    url: postgresql+pg8000://postgres@/postgres?unix_sock={socket}
    documents: {{query: "SELECT 1 AS doc_id, 'a lamp' AS text"}}
"""


def test_a_driver_that_a_running_stack_lacks_is_installed_as_the_message_says(copied: tuple[Checkout, Stack]) -> None:
    checkout, stack = copied
    with stack.settings.sources.open("a") as file:
        file.write(SOURCE.format(socket=stack.settings.sockets / "postgres" / ".s.PGSQL.5432"))
    told = stack.make("train", "REPO=corpus", check=False)
    wanted = r"Write its package into (\S+); then make (.+), make (.+) and, where the stack runs, make (\S+ \S+)\.$"
    advised = re.search(rf"'pg8000'.* {wanted}", told.stdout, re.MULTILINE)
    assert told.returncode and advised, told.stdout
    requirements, *commands = advised.groups()
    with (checkout.root / requirements).open("a") as file:
        file.write("\npg8000\n")
    for command in commands:
        stack.make(*command.split())
    assert "shop: 1 documents" in stack.make("train", "REPO=corpus").stdout
    stack.make("down")
