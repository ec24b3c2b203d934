"""How good a release is: evaluation, gate, latency, report; and what a training hands over. Knows no Dagster."""
