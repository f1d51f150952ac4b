"""Kilolayer: goal-reaching agents without rewards, with networks from 4 to 1024 layers deep."""

from kilolayer.analysis.load import Policy, Run, load
from kilolayer.api import collect, compare, forecast, train, train_seeds
from kilolayer.config import TrainConfig
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.recommended import recommended
from kilolayer.studies.run import study
from kilolayer.types import UserError

__all__ = [
    "DeployedPolicy",
    "Policy",
    "Run",
    "TrainConfig",
    "UserError",
    "collect",
    "compare",
    "forecast",
    "load",
    "open_policy",
    "recommended",
    "study",
    "train",
    "train_seeds",
]
__version__ = "0.1.0"
