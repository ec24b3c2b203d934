"""Decides which searches are compared: of each application, its period of new searches and the one before it.

Knows no Dagster and no statistics. Simulated and real searches are of different applications, and so never mix.
"""

from pydantic import BaseModel, Field

from shared_ops.data.ubi import Store, Window


class Period(BaseModel):
    """An application's newest period, from one transaction of the database to another."""

    before: int | None = Field(default=None, description="where the period before begins, None where there is none")
    begins: int
    searches: int = 0
    ends: int | None = Field(default=None, description="where it ends, None while it is not full")
    full_since: float | None = Field(default=None, description="seconds since 1970")

    @property
    def window(self) -> Window:
        """The transactions that stored the searches of a full period.

        Raises:
            ValueError: where it is not full.
        """
        if self.ends is None:
            raise ValueError("Expected a full period, and this one still fills up.")
        return Window(self.begins, self.ends)


class DriftState(BaseModel):
    """What the sensor remembers: every application's period. A search counts as new in one look only."""

    counted: int = Field(default=0, description="the transaction before which every search was counted")
    periods: dict[str, Period] = {}

    def count(self, store: Store, enough: int, now: float) -> None:
        """Count the searches that are new at `now` (seconds since 1970). A period with `enough` searches is full.

        Raises:
            psycopg2.Error: where the database cannot be asked.
        """
        window = store.window(self.counted)
        if window.before < self.counted:  # another database, whose transactions begin anew
            self.periods, window = {}, Window(0, window.before)
        for application, searches in store.searches(window).items():
            period = self.periods.setdefault(application, Period(begins=window.after))
            period.searches += searches
            if period.ends is None and period.searches >= enough:
                period.ends, period.full_since = window.before, now
        self.counted = window.before

    def due(self, settle_seconds: float, now: float) -> str | None:
        """The application to look at now, None where there is none: its period has been full for `settle_seconds`.

        Where several are due it is the one with most searches.
        """
        settled = {
            application: period.searches
            for application, period in self.periods.items()
            if period.full_since is not None and now - period.full_since >= settle_seconds
        }
        return max(settled, key=lambda application: (settled[application], application)) if settled else None

    def begin_next(self, application: str, store: Store) -> None:
        """Begin the period after the full one, which becomes the one before.

        Raises:
            psycopg2.Error: where the database cannot be asked.
        """
        begins, ends = self.periods[application].window
        searches = store.searches(Window(ends, self.counted)).get(application, 0)
        self.periods[application] = Period(before=begins, begins=ends, searches=searches)
