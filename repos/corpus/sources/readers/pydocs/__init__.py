"""The documentation of Python packages as a source: the default corpus."""
