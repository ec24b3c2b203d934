"""What the code server of behavior loads."""

from repos.behavior import ops
from shared_ops.pipeline.family import family_definitions

defs = family_definitions(__name__, ops)
