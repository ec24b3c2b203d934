"""The local stack: its processes, its supervisor, its commands. Run as `python -m deploy.stack` in envs/platform."""
