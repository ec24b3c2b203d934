"""Releases, the code and environment that they run with, and the live set. Judges nothing, and knows no Dagster."""
