"""The list of the repositories: ports are given, two entries never clash, and what is wrong is told in one sentence."""

import pytest

from shared_ops.settings import LIST, ListError, free_port, listed, repositories


def entry(name: str, port: int | str, role: str = "search") -> str:
    owned = f'owner = "@org/team"\nenvironment = "light"\nqueue = "{name}"\n'
    return f'\n[{name}]\n{owned}role = "{role}"\nport = {port}\n'


def test_a_family_has_two_ports_and_another_repository_one() -> None:
    found = listed(entry("one", 11) + entry("two", 12, "data"))
    assert [each.ports for each in found.values()] == [(11, 21), (12,)]


@pytest.mark.parametrize("role", ["search", "rank"])
def test_there_may_be_several_families_of_a_role(role: str) -> None:
    assert list(listed(entry("one", 11, role) + entry("two", 12, role))) == ["one", "two"]


KNOWN = {
    "corpus": (10,), "feedback": (15,), "keyword": (11, 21), "semantic": (12, 22), "behavior": (13, 23),
    "ranker": (14, 24), "live": (16,),
}  # fmt: skip
"""The ports of stacks that run."""


def test_the_ports_that_running_homes_know_stay() -> None:
    assert {name: each.ports for name, each in repositories().items() if name in KNOWN} == KNOWN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (entry("one", 11) + entry("two", 11), ": [one] and [two] both have the port 11; 10 is free."),
        (entry("one", 11) + entry("two", 21), ": [one] and [two] both have the port 21; 10 is free."),
        (entry("one", 21) + entry("two", 11), ": [one] and [two] both have the port 21; 10 is free."),
        (entry("one", 1, "data"), ", one.port: Input should be greater than or equal to 2. An entry has owner, "),
        (entry("one", 501), ", one.port: Input should be less than or equal to 500."),
        (entry("one", '"x"'), ", one.port: Input should be a valid integer"),
        (
            entry("one", 11, "sort"),
            ", one.role: Input should be 'source', 'data', 'feedback', 'search', 'rank' or 'live'.",
        ),
        (entry("one", 11, "live") + entry("two", 12, "live"), ": [one] and [two] both have the role live, which one"),
        (entry("New-One", 11), ": [New-One] is no name: expected small letters, digits and _, a letter first."),
        ("[one]", ", one.owner: Field required. An entry has owner, environment, role, queue, port"),
        ("one = 1", ", one: Input should be a valid dictionary"),
        ("[one", " cannot be read: Expected ']' at the end of a table declaration"),
    ],
)
def test_a_list_that_cannot_be_used_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ListError) as told:
        listed(text)
    assert str(told.value).startswith(LIST + said) and "\n" not in str(told.value)


def test_many_repositories_can_give_a_source_each() -> None:
    found = listed(entry("one", 11, "source") + entry("two", 12, "source"))
    assert [each.ports for each in found.values()] == [(11,), (12,)]


def test_the_lowest_free_port_is_given() -> None:
    found = {name: repository for name, repository in repositories().items() if name in KNOWN}
    given = []
    for number in range(30):
        given.append(free_port(found.values(), "search"))
        text = entry(f"new{number}", given[-1])
        found |= listed(text)
    assert given[:5] == [17, 18, 19, 20, 25]
    ports = [port for repository in found.values() for port in repository.ports]
    assert len(ports) == len(set(ports))
