"""A session, a server of its page, and a policy."""

from collections.abc import Iterator

import jax
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.config import run_config
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import Session
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.networks.encoders import TorsoSpec
from served import MAZE, STUDENT, SUBGOALS, TEACHER, slope


@pytest.fixture
def session() -> Iterator[Session]:
    """Watched, and stepping once it has a goal."""
    session = Session(MAZE, [TEACHER, STUDENT], slope, lambda *_: SUBGOALS)
    session.warm_up()
    session.attach(lambda frame: None, lambda: 1)
    session.start()
    yield session
    session.stop()


@pytest.fixture
def server() -> Iterator[PageServer]:
    session = Session(MAZE, [TEACHER, STUDENT], slope, lambda *_: SUBGOALS)
    session.warm_up()
    with PageServer(session, 0) as server:
        server.start()
        yield server


@pytest.fixture
def policy_path(tmp_path):
    spec = ActorSpec(TaskSpec(4, 2, 2), TorsoSpec(depth=4, width=16))
    actor = spec.init(jax.random.key(0))
    return (
        DeployedPolicy(tmp_path, run_config(), spec, actor, "distil", {})
        .save(tmp_path / "small")
        .path
    )
