"""SIMULATED people, who search and click where there are no others yet."""
