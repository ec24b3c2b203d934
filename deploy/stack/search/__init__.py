"""Asks the running search app and services as people and evaluations do."""
