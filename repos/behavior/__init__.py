"""The behavior model and its pipeline."""
