"""Everything that knows Dagster: ops, types, checks, jobs, triggers, lineage, resources, the launcher, alerts."""
