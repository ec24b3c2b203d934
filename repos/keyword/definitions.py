"""What the code server of keyword loads."""

from repos.keyword import ops
from shared_ops.pipeline.family import family_definitions

defs = family_definitions(__name__, ops)
