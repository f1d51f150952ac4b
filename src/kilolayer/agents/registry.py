"""Agents by name, and the sizes that they need from a task."""

from collections.abc import Mapping

from kilolayer.agents.base import Agent, TaskSpec
from kilolayer.agents.crl import CRL
from kilolayer.agents.imitation import Cloning, GoalCloning, Imitation
from kilolayer.agents.ppo import PPO
from kilolayer.agents.sac import SAC, HindsightSAC
from kilolayer.agents.td3 import TD3
from kilolayer.agents.validation import require_valid_class
from kilolayer.errors import UserError
from kilolayer.lookup import find
from kilolayer.settings import settings_of
from kilolayer.tasks.base import Task
from kilolayer.user_code import is_user_code

AGENTS: Mapping[str, type[Agent]] = {
    "crl": CRL,
    "sac": SAC,
    "sac-her": HindsightSAC,
    "td3-her": TD3,
    "ppo": PPO,
    "gcsl": Imitation,
    "gcbc": GoalCloning,
    "bc": Cloning,
}


def agent_class(name: str) -> type[Agent]:
    """The agent called `name`, or the user's own `module:Class`, a subclass of `Agent`.

    Raises UserError with the nearest name if there is none, and for one that cannot be made.
    """
    found = find("agent", name, AGENTS)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UserError(
            f"agent = {name!r} is no subclass of kilolayer.agents.base.Agent: name the class "
            "itself, derived from it."
        )
    if is_user_code(found):
        require_valid_class(name, found)
    return found


def name_of(agent: Agent | type[Agent]) -> str:
    """The name by which `agent_class` finds the agent's class."""
    kind = agent if isinstance(agent, type) else type(agent)
    ours = (name for name, known in AGENTS.items() if known is kind)
    return next(ours, f"{kind.__module__}:{kind.__qualname__}")


def owners_of(setting: str) -> list[str]:
    """The names of the agents that have a setting."""
    return [name for name, kind in AGENTS.items() if setting in settings_of(kind)]


def task_spec(task: Task) -> TaskSpec:
    """The sizes of a task's observation, action and goal."""
    return TaskSpec(len(task.observation), task.action_dim, task.goal.dim)
