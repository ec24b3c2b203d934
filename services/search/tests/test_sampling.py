"""Of searches that come faster than is recorded whole, a sample is, and it is fair to all of them."""

from services.search.sampling import Sample


def test_all_are_taken_while_few_come() -> None:
    now = [0.0]
    sample = Sample(60, clock=lambda: now[0])
    taken = []
    for _ in range(600):
        taken.append(sample.takes())
        now[0] += 1.02  # 58.8 a minute
    assert all(taken)


def test_of_more_as_many_are_taken_at_any_time() -> None:
    now = [0.0]
    sample = Sample(600, clock=lambda: now[0])
    by_minute = [0] * 10
    for _ in range(60_000):
        by_minute[int(now[0] // 60)] += sample.takes()
        now[0] += 0.01  # ten times as many
    assert by_minute[0] < 5 * 600, "the first minute's beginning is taken, as nobody knows yet what comes"
    assert all(450 < taken < 750 for taken in by_minute[1:])  # 6 standard deviations of a binomial


def test_all_are_taken_again_once_fewer_come() -> None:
    now = [0.0]
    sample = Sample(10, clock=lambda: now[0])
    for _ in range(1000):
        sample.takes()
    now[0] = 61
    assert all(sample.takes() for _ in range(9))


def test_none_is_taken_where_none_is_wanted() -> None:
    assert not any(Sample(0).takes() for _ in range(100))
