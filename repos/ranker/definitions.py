"""What the code server of ranker loads."""

from repos.ranker import ops
from repos.ranker.checks import feature_checks
from shared_ops.pipeline.family import family_definitions

defs = family_definitions(__name__, ops, beside=ops.check_features, asset_checks=feature_checks())
