"""What a stack's processes are, and how they are started, watched and ended. Asks neither Dagit nor a model."""
