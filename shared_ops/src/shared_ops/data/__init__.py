"""Tables, snapshots, feedback and where they are stored. Knows no model, no release and no Dagster."""
