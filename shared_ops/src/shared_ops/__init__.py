"""What every repository shares: rooms that stand in one order, of which only `pipeline` knows Dagster (README.md)."""
