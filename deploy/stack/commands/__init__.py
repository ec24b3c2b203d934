"""The stack's commands, by what they are about; `deploy/stack/__main__.py` lists them and tells their errors."""
