"""What the code server of semantic loads."""

from repos.semantic import ops
from shared_ops.pipeline.family import family_definitions

defs = family_definitions(__name__, ops)
