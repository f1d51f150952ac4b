"""A user's own code, wrong in one place: one sentence that names it, before a run is made."""

import re
from pathlib import Path

import pytest

from faults.conftest import TINY, refused
from kilolayer.cli import main

# An agent that learns from the newest unroll alone refuses the options of the replay buffer.
WITHOUT_BUFFER = [each for each in TINY if "replay" not in each]
# Sizes that the sentences give: 7 environments or rows; the puck has 4 observations, 2 of all else.
GOAL = r"where float32 \[7, 2\] \(\[envs, goal\]\) is needed"
SEEN = r"where float32 \[7, 4\] \(\[envs, observation\]\) is needed"
START = r"where a tuple of float32 \[7, 2\] \(qpos \[envs, nq\]\) and .* is needed"
EACH = r"where bool \[7\] \(\[envs\]\) is needed"
TRACED = r"Tracer\w+Error.*write it with jax\.numpy"

TASKS = {
    "a_class": r"returns the class Puck itself where a kilolayer\.tasks\.base\.Task is needed",
    "unfinished": r"fails \(TypeError: Can't instantiate abstract class.*observe",
    "lacks_name": r"its name fails \(NameError",
    "Bare": r"fails \(TypeError.*'world'\): it is called without arguments",
    "no_length": r"it has no episode_length: add one",
    "number_for_name": r"its name is 3 where a text is needed",
    "string_coordinates": r"its observation is .*where a tuple of Coordinate",
    "no_coordinates": r"its observation is .*of length 0 where",
    "goal_is_tuple": r"its goal is .*tuple.* where a GoalSpec is needed",
    "radius_zero": r"its goal\.radius is 0\.0 where a number above 0 is needed",
    "radius_nan": r"its goal\.radius is nan",
    "easy_radius_text": r"its goal\.easy_radius is '0\.2'",
    "one_action": r"its action_dim is 1 where 2, the number of controls",
    "three_actions": r"its action_dim is 3 where 2, the number of controls",
    "action_text": r"its action_dim is 'two' where a whole number",
    "length_one": r"its episode_length is 1 where a whole number from 2 on",
    "length_float": r"its episode_length is 100\.0 where",
    "unknown_split": r"its splits is .*where a tuple of training, evaluation",
    "split_text": r"its splits is 'evaluation' where a tuple",
    "box_of_three": r"its goal_box is .*where None or two corners of 2 numbers",
    "maze_text": r"its maze is 'u' where None or a Maze",
    "goal_transposed": rf"its sample_goal returns float32 \[2, 7\] {GOAL}",
    "goal_of_one": rf"its sample_goal returns float32 \[2\] {GOAL}",
    "goal_too_wide": rf"its sample_goal returns float32 \[7, 3\] {GOAL}",
    "goal_int": rf"its sample_goal returns int32 \[7, 2\] {GOAL}",
    "goal_half": rf"its sample_goal returns float16 \[7, 2\] {GOAL}",
    "goal_list": rf"its sample_goal returns a value of type list of length 7 {GOAL}",
    "goal_none": rf"its sample_goal returns None {GOAL}",
    "goal_nan": r"its sample_goal returns nan or infinity at the start",
    "goal_of_evaluation": rf"its sample_goal returns float32 \[7, 3\] {GOAL}",
    "goal_wants_less": r"its sample_goal fails \(TypeError.*2 positional arguments but 4",
    "reset_one": rf"its reset returns float32 \[7, 2\] {START}",
    "reset_three": rf"its reset returns a value of type tuple of length 3 {START}",
    "reset_wide": rf"its reset returns float32 \[7, 3\] and float32 \[7, 3\] {START}",
    "reset_infinite": r"its reset returns nan or infinity",
    "reset_numpy_random": rf"its reset fails \({TRACED}",
    "observes_three": rf"its observe returns float32 \[7, 3\] {SEEN}",
    "observes_scalar": rf"its observe returns float32 \[\] {SEEN}",
    "observes_column": rf"its observe returns float32 \[7, 4, 1\] {SEEN}",
    "observes_dictionary": rf"its observe returns a value of type dict {SEEN}",
    "observes_field": r"its observe fails \(KeyError: 'sensordata'\)",
    "observes_infinite": r"its observe returns nan or infinity",
    "observes_by_numpy": rf"its observe fails \({TRACED}",
    "observes_tuple": rf"its observe returns a value of type tuple of length 2 {SEEN}",
    "achieves_three": rf"its achieved_goal returns float32 \[7, 3\] {GOAL}",
    "achieves_nothing": rf"its achieved_goal returns None {GOAL}",
    "ends_as_number": rf"its terminated returns float32 \[7\] {EACH}",
    "ends_as_bool": rf"its terminated returns False {EACH}",
    "ends_by_if": rf"its terminated fails \({TRACED}",
    "ends_column": rf"its terminated returns bool \[7, 1\] {EACH}",
    "breaks_off_text": rf"its truncated returns 'no' {EACH}",
    "current_goal_of_one": rf"its current_goal returns float32 \[2\] {GOAL}",
    "distance_each": r"its distance returns float32 \[3, 7, 2\] where float32 \[3, 7\]",
    "distance_total": r"its distance returns float32 \[\] where float32 \[3, 7\]",
    "points_flat": r"its goal_points returns float32 \[2\] where an array \[points, 3\]",
    "points_fail": r"its goal_points fails \(IndexError",
    "behaves_number": r"its behaviour returns 3\.0 where a dictionary of numbers",
    "behaves_array": r"its behaviour returns float32 \[1, 7, 2\] for 'speed' where one number",
    "behaves_badly": r"its behaviour fails \(ZeroDivisionError",
    "leaves": r"its observe fails \(SystemExit: 3\)",
    "no_world": r"its world is a value of type MjModel where a PointWorld or MujocoWorld",
    "asks_for_a_field_that_is_none": r"its world fails \(ValueError: no_such_field",
    "no_substeps": r"its world\.substeps is 0 where a whole number from 1 on",
    "no_model": r"its world\.model is 'puck\.xml' where an MjModel is needed",
    "later": r"returns a value of type coroutine where",
    "yields": r"returns a value of type generator where",
    "recurses": r"fails \(RecursionError",
    "leaves_at_once": r"fails \(SystemExit: goodbye\)",
    "long_error": r"fails \(ValueError: first line\)",
    "wordless": r"fails \(ValueError\)",
    "its_own_sentence": r"^error: the robot's file is missing: run download\.sh first\.$",
}

ACTIONS = r"where float32 \[7, 2\] \(\[batch, action\]\) is needed"
RATES = r"where float32 \[7\] \(\[batch\]\) is needed"
AGENTS = {
    "Unfinished": r"lacks rate, update: write these functions",
    "an_instance": r"a value of type BehaviourCloning, which cannot be called",
    "a_function": r"no subclass of kilolayer\.agents\.base\.Agent: name the class itself",
    "NoDefault": r"cannot be made \(TypeError.*'size'\): each field needs a default",
    "UnknownType": r"cannot be made \(NameError.*NoSuchType",
    "WrongDefault": r"size = 'three' is not allowed: it must be a whole number",
    "FunctionField": r"its activation is .*as config\.json keeps it, is needed",
    "SizesTuple": r"its sizes is .*as config\.json keeps it, is needed",
    "OwnInit": r"cannot be made \(TypeError.*'size'",
    "MadeByAFunction": r"calls itself abc:Changed, where no run could find it again",
    "LearnsFromText": r"its learns_from is 'videos' where a tuple of steps or dataset",
    "LearnsFromNothing": r"its learns_from is .*of length 0 where",
    "OnNothing": r"its on is None where an Agent is needed",
    "OnForgotten": r"its on is None where an agent with its problem",
    "OnFails": r"its on fails \(ZeroDivisionError",
    "SamplingText": r"its sampling is 'geometric' where a Sampling",
    "DepthsList": r"its own_depths is .*list.*where a tuple of whole numbers",
    "InitFails": r"its init fails \(ZeroDivisionError",
    "InitText": r"its init returns 'actor' at \['name'\] where a tree of arrays",
    "InitBare": r"its init returns a value of type dict where a state with `parameters\.actor`",
    "ActWide": rf"its act returns float32 \[7, 9\] {ACTIONS}",
    "ActOne": rf"its act returns float32 \[2\] {ACTIONS}",
    "ActNone": rf"its act returns None {ACTIONS}",
    "ActByIf": rf"its act fails \({TRACED}",
    "ActWantsLess": r"its act fails \(TypeError.*3 positional arguments but 6",
    "DrawsWide": rf"its act returns float32 \[7, 3\] {ACTIONS}",
    "ExploreInt": rf"its explore returns int32 \[7, 2\] {ACTIONS}",
    "RateColumn": rf"its rate returns float32 \[7, 1\] {RATES}",
    "RateNone": rf"its rate returns None {RATES}",
    "DistributionOne": r"its distribution returns float32 \[7, 2\] where a tuple of float32",
    "DiscountText": r"its horizon_discount returns 'high' where one number",
    "UpdateOne": r"its update returns a value of type State where \(state, metrics\)",
    "UpdateNone": r"its update returns None where \(state, metrics\)",
    "UpdateKey": r"its update fails \(AttributeError.*'rewards'",
    "MetricsList": r"metrics as a value of type list of length 1 where a dictionary",
    "MetricVector": r"the metric 'loss' as float32 \[7\] where one number",
    "MetricText": r"the metric 'loss' as 'small' where one number",
    "MetricPlain": r"the metric 'loss' as 0\.5 of Python where an array of JAX",
    "StateOther": r"its update returns a state of other parts where",
    "StateWider": r"its update returns float32 \[2, .*where float32 \[.* as from init",
    "StateHalf": r"its update returns float16 \[.*where float32 \[.* as from init",
    "NetworksList": r"its networks returns a value of type list",
    "NetworksArrays": r"its networks returns a value of type dict where a dictionary of Deep",
    "PreparesNothing": r"its prepare returns arrays none where",
    "PreparesUnequal": r"its prepare returns arrays \[4\], \[5\] where",
    "PreparesOther": r"its update fails \(KeyError: 'seen'\)",
}

QUESTIONS = {
    "number": r"returns a value of type int where a \S+\.Question is needed",
    "name_number": r"its name is 3 where a text",
    "setups_list": r"its setups is .*list.* where a dictionary of quick, laptop, body, paper",
    "setups_none": r"its setups is None where",
    "setups_other": r"its setups is .*dict where a dictionary of quick",
    "setups_text": r"its setups\['quick'\] is 'small' where a Setup",
    "grids_none": r"its grids is None where a function",
    "grids_empty": r"its grids is .*of length 0 where a list of Grid",
    "grids_nothing": r"its grids is None where a list of Grid",
    "grids_texts": r"its grids is .*list of length 1 where a list of Grid",
    "grids_fail": r"its grids fails \(AttributeError.*no_such_thing",
    "grids_unknown_field": r"there is no setting 'no_such_setting'",
    "grids_want_more": r"its grids fails \(TypeError.*'more'",
    "analyse_text": r"its analyse is 'mean' where a function",
}

NAMES = {
    "a_script:f": r"'a_script' cannot be imported \(SystemExit: usage: a_script\.py FILE\)",
    "lazy_module:f": r"cannot be imported \(RuntimeError: cannot load f\): correct the module",
    "my_own.py:good": r"as in `import`; the nearest valid choice is my_own:good",
    "./my_own.py:good": r"the nearest valid choice is my_own:good",
    "lib/my_own:good": r"the nearest valid choice is lib\.my_own:good",
    "my own:good": r"the module's name as in `import`\.$",
    "..my_own:good": r"the module's name as in `import`\.$",
    ":": r"the module's name as in `import`\.$",
    "my_own.sub:good": r"No module named 'my_own\.sub'.*write module:function",
    "random:make": r"the module random \(\S+random\.py\) has no 'make'",
    "sys:make": r"the module sys \(built into Python\) has no 'make'",
    "my_own:exits": r"fails \(SystemExit: 7\)",
    "my_own:good:good": r"has no 'good:good'",
}


def told_with_log(capsys, *arguments: str, module: str) -> str:
    """The sentence; where it names a log file, that shows the user's own lines."""
    told = refused(capsys, *arguments)
    log = re.search(r" Details: (\S+)$", told)
    assert (log is None) == (" fails (" not in told and " cannot be made" not in told)
    if log is not None:
        text = Path(log[1]).read_text()
        assert "Traceback" in text
        never_entered = re.search(
            r"TypeError: .*(argument|abstract class)|world fails|cannot be made", told
        )
        assert f"{module}.py" in text or never_entered
    return told


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_told_by_what_is_wrong(folder, capsys, name):
    arguments = ["inspect", "--task", f"my_tasks:{name}"]
    assert re.search(TASKS[name], told_with_log(capsys, *arguments, module="my_tasks"))


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_told_by_what_is_wrong(folder, capsys, name):
    sizes = WITHOUT_BUFFER if name.startswith("Prepares") else TINY
    arguments = ["train", *sizes, "--out=run", "--agent", f"my_agents:{name}"]
    assert re.search(AGENTS[name], told_with_log(capsys, *arguments, module="my_agents"))


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_told_by_what_is_wrong(folder, capsys, name):
    arguments = ["study", "--dry-run", "--name", f"my_questions:{name}"]
    assert re.search(QUESTIONS[name], told_with_log(capsys, *arguments, module="my_questions"))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_told_by_what_is_wrong(folder, capsys, name):
    assert re.search(NAMES[name], refused(capsys, "inspect", "--task", name))


# Every other command that takes a task or an agent by name.
COMMANDS = {
    "train": ["train", *TINY, "--out=run", "--task=my_tasks:observes_three"],
    "plan": ["plan", *TINY, "--task=my_tasks:observes_three"],
    "plan agent": ["plan", *TINY, "--agent=my_agents:ActWide"],
    "collect": ["collect", "my_tasks:observes_three", "--out=a.npz", "--steps=100"],
    "study": ["study", "depth", "--dry-run", "--task", "my_tasks:observes_three"],
    "study for real": ["study", "depth", "--task", "my_tasks:observes_three"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_every_command_tells_it(folder, capsys, arguments):
    assert re.search(r"its (observe|act) returns float32", refused(capsys, *arguments))


@pytest.mark.slow
def test_what_fits_is_trained_and_read_again(folder, capsys):
    own = ["--task=my_tasks:good", "--agent=my_agents:Good", "--average-decay=0"]
    main(["train", *TINY, *own, "--out=run"])
    main(["evaluate", "run", "--episodes=2", "--steps=5"])
    main(["train", *WITHOUT_BUFFER, "--agent=my_agents:OnPolicy", "--out=other"])
    assert "success rate" in capsys.readouterr().out
