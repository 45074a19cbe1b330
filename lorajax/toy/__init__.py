"""The toy world: a real translation problem that fits into minutes on two CPU cores."""

from lorajax.model_names import SHIPPED

# The two shipped checkpoints, by the names that stand for them where a model is asked for.
MODELS = SHIPPED
CHECKPOINTS = SHIPPED['toy-source'].parent
