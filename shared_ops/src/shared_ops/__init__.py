"""What every model repository shares.

The contracts (`tables`, `snapshots`, `releases`, `livesets`, `settings`) know no Dagster, so that the prediction
services import them without it. The pipeline (`types`, `ops`, `resources`, `lineage`) is made of them.
"""
