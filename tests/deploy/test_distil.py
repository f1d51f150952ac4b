"""Students of a trained run: what is written, and every sentence for what cannot be done."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.deploy.smaller import distil as distilling
from kilolayer.deploy.smaller.distil import Distilled, critic_of, distil, train_student
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.errors import UserError
from kilolayer.runtime.progress import SilentDisplay

SHORT = Recipe(steps=6_400, batch_size=32, updates_per_step=1 / 100, critic_weighted=True)

EPISODES = 8


class Notes(SilentDisplay):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def student(tiny_run, tmp_path_factory) -> DeployedPolicy:
    """A student deeper and narrower than its teacher of depth 8 and width 16."""
    notes, out = Notes(), tmp_path_factory.mktemp("students") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distilling, "make_display", lambda progress: notes)
        (made,) = distil(tiny_run.path, [12], [8], recipe=SHORT, episodes=EPISODES, out=out)
    assert [note for note in notes.notes if "depth 12 is more than its teacher's 8" in note]
    return made


def test_a_student_is_a_policy_directory(student, tiny_run, normal):
    opened = open_policy(student.path)
    assert (opened.method, opened.spec.torso.depth, opened.spec.torso.width) == ("distil", 12, 8)
    # Three blocks, scaled as a network of this depth is.
    assert opened.spec.torso.branch_scale == pytest.approx(2 / 3)
    details = opened.details
    assert details["teacher"] == str(tiny_run.path)
    assert (details["steps"], details["updates"], details["seed"]) == (6_400, 32, 0)
    assert np.isfinite(details["divergence"])
    gained = details["scores"]["time_at_goal"] - details["teacher_scores"]["time_at_goal"]
    assert details["change"]["value"] == pytest.approx(gained)
    assert details["change"]["seeds"] == EPISODES
    # The efficiency of ways is told of those alone that have arrived somewhere.
    names = [set(details[key]) - {"path_efficiency"} for key in ("scores", "teacher_scores")]
    assert names[0] == names[1]
    assert opened.policy(normal(0, 3, 4), normal(1, 3, 2)).shape == (3, 2)


def test_the_same_seed_gives_the_same_student(student, tiny_run, tmp_path, assert_trees_equal):
    again = distil(
        tiny_run.path,
        [12],
        [8],
        recipe=SHORT,
        episodes=EPISODES,
        out=tmp_path / "again",
        progress=False,
    )
    assert_trees_equal(again[0].agent_state, student.agent_state)


@pytest.mark.parametrize(
    ("depths", "changes", "sentence"),
    [
        ([6], {}, "depth = 6 is not allowed: a multiple of layers_per_block = 4.*is 8"),
        ([], {}, "there is no student to distil: give a --depth"),
        ([4], {"hindsight_share": 1.5}, "hindsight_share = 1.5 .* the nearest valid choice is 1"),
        ([4], {"teacher_acts": -0.1}, "teacher_acts = -0.1 is not allowed"),
        ([4], {"steps": 0}, "steps = 0 is not allowed"),
        (
            [4],
            {"updates_per_step": 1e12},
            "updates_per_step = 1000000000000.0 .* valid choice is 1000",
        ),
        ([4], {"batch_size": 2**31 - 1}, "batch_size = 2147483647 .* GiB at least"),
        ([4 * 10**12], {}, "depth = 4000000000000 is not allowed: the networks alone would take"),
    ],
)
def test_invalid_distillation_is_refused_before_any_work(
    depths, changes, sentence, tiny_run, tmp_path
):
    def distil_all():
        recipe = dataclasses.replace(SHORT, critic_weighted=False, **changes)
        distil(tiny_run.path, depths, recipe=recipe, out=tmp_path / "out", progress=False)

    with pytest.raises(UserError, match=sentence):
        distil_all()
    assert not (tmp_path / "out").exists()


def test_existing_output_is_refused_before_any_work(tiny_run, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        distil(tiny_run.path, [4], recipe=SHORT, out=tmp_path, progress=False)


def test_value_given_twice_is_one_student(tiny_run, tmp_path, monkeypatch):
    def untrained(teacher, student, recipe, seed, display, critic):
        return Distilled(student.init(jax.random.key(seed)), 0.0, 0, 0)

    monkeypatch.setattr(distilling, "train_student", untrained)
    made = distil(
        tiny_run.path, [4, 8, 4], [16, 16], [0, 1, 0], episodes=EPISODES, out=tmp_path / "out",
        progress=False,
    )  # fmt: skip
    sizes = [(each.spec.torso.depth, each.details["seed"]) for each in made]
    assert sizes == [(4, 0), (4, 1), (8, 0), (8, 1)]


def test_policy_without_a_run_has_no_critic(student):
    with pytest.raises(UserError, match=r"without a critic.*--critic-weighted"):
        critic_of(student.path)


def test_run_without_a_checkpoint_is_refused(run_copy, tmp_path):
    for checkpoint in (run_copy.path / "checkpoints").iterdir():
        checkpoint.rename(tmp_path / checkpoint.name)
    with pytest.raises(UserError, match="its checkpoints are gone"):
        distil(run_copy.path, [4], recipe=SHORT, progress=False)


def test_diverging_student_is_reported(student, tiny_run):
    teacher = open_policy(tiny_run.path)
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), teacher.agent_state)
    teacher = dataclasses.replace(teacher, agent_state=broken)
    with pytest.raises(UserError, match=r"diverged after 32 updates: lower learning_rate = 0.001"):
        train_student(teacher, student.spec, SHORT, 0, SilentDisplay(), critic_of(tiny_run.path))


def test_the_card_is_plain_json(student):
    card = json.loads((student.path / "policy.json").read_text())
    assert card["details"]["recipe"]["critic_weighted"] is True
