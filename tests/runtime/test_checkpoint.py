"""Checkpoints: exact, verified, and complete or absent, also on a full disk."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.runtime import checkpoint
from old_checkpoints import write_orbax


def agent_tree(value: float = 1.5) -> dict:
    """Every kind of leaf that a run has: floats, integers, keys, scalars and empty arrays."""
    return {
        "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)) * value, jnp.float32),
        "count": jnp.asarray(7, jnp.int32),
        "nested": (jnp.asarray([1, -(2**31)], jnp.int32), [jnp.float32(value)]),
        "key": jnp.asarray([0, 2**32 - 1], jnp.uint32),
        "empty": jnp.zeros((5, 0), jnp.uint32),
        "special": jnp.asarray([np.nan, -np.inf, -0.0, 1e-45], jnp.float32),
        "flags": jnp.asarray([True, False]),
        "coarse": jnp.asarray([1.0, 3.0], jnp.bfloat16),
    }


def run_script(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A Python program in a separate process, with a folder as its argument."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(root)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


LOOP = {"buffer": jnp.arange(6.0).reshape(2, 3), "unrolls": jnp.asarray(3, jnp.int32)}


def test_checkpoint_round_trips_bit_identically(tmp_path, assert_trees_equal):
    size = checkpoint.save(tmp_path, 3, agent_tree(), LOOP)
    assert size > 100
    assert checkpoint.steps(tmp_path) == [3]
    for like in (agent_tree(0.0), jax.eval_shape(agent_tree)):
        back = checkpoint.restore(tmp_path, 3, checkpoint.AGENT, like)
        assert_trees_equal(back, agent_tree())
    assert_trees_equal(checkpoint.restore(tmp_path, 3, checkpoint.LOOP, LOOP), LOOP)


def test_large_array_is_read_in_chunks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "PIECE", 1000)
    tree = {
        "buffer": np.arange(3000, dtype=np.float32).reshape(75, 40),  # 6 rows a piece
        "one row": np.arange(3000).reshape(1, 3000),
        "rows of two pieces": np.arange(1200, dtype=np.float32).reshape(2, 600),
    }
    checkpoint.save(tmp_path, 1, tree)
    back = checkpoint.restore(tmp_path, 1, checkpoint.AGENT, tree)
    assert all(back[name].tobytes() == array.tobytes() for name, array in tree.items())
    write = checkpoint.write_tensors

    def write_wrongly(file, tree):
        wrong = {name: array.copy() for name, array in tree.items()}
        wrong["buffer"][-1, -1] += 1
        write(file, wrong)

    monkeypatch.setattr(checkpoint, "write_tensors", write_wrongly)
    with pytest.raises(UserError, match=r"buffer in .* is not what was written"):
        checkpoint.save(tmp_path, 2, tree)


LITTLE_MEMORY = """
    import pathlib, resource, sys
    import numpy as np
    from kilolayer.runtime import checkpoint

    root = pathlib.Path(sys.argv[1])
    buffer = np.ones((2**10, 2**16), np.float32)
    checkpoint.save(root, 1, {"weight": np.ones(3)}, {"key": np.ones(3)})
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    taken = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
    limit = 1024 * taken + buffer.nbytes // 2
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    checkpoint.save(root, 2, {"weight": np.ones(3)}, {"buffer": buffer})
    print(checkpoint.newest_intact(root))
"""


def test_replay_buffer_is_saved_without_a_copy(tmp_path) -> None:
    """256 MiB where half as much is left."""
    done = run_script(LITTLE_MEMORY, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, [])\n"


def test_checkpoint_files_follow_the_umask(tmp_path) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    finally:
        os.umask(before)
    inside = (tmp_path / f"{1:012d}").iterdir()
    assert {path.stat().st_mode & 0o777 for path in inside} == {0o640}


def test_the_newest_two_keep_their_loops(tmp_path, assert_trees_equal):
    assert checkpoint.latest(tmp_path) is None
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, agent_tree(step), LOOP)
    assert checkpoint.steps(tmp_path) == [1, 2, 10]
    assert checkpoint.latest(tmp_path) == 10
    for step in (2, 10):
        assert_trees_equal(checkpoint.restore(tmp_path, step, checkpoint.LOOP, LOOP), LOOP)
    with pytest.raises(UserError, match="has no whole part 'loop'"):
        checkpoint.restore(tmp_path, 1, checkpoint.LOOP, LOOP)
    for step in (1, 2):
        back = checkpoint.restore(tmp_path, step, checkpoint.AGENT, agent_tree())
        assert_trees_equal(back, agent_tree(step))


# What some library takes for a pattern, an option, an escape, a variable or another name.
AWKWARD = [
    "sweep[lr=0.1]", "[", "]", "[!a]", "back\\slash", "star*", "what?", "{a,b}", "two words", "-o",
    "'", '"', "$HOME", "~", "#1", "%41", "a;b", "a|b", "a\nb", "Größe", "試験", "a:b", "@",
    "x" * 200,
]  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_any_folder_name_is_accepted(tmp_path, name, assert_trees_equal):
    root = tmp_path / name / "run"
    # What its pattern would match.
    for other in ("star1", "whatx", "l", "a"):
        (tmp_path / other / "run").mkdir(parents=True)
    for step in (1, 2):
        checkpoint.save(root, step, agent_tree(step), LOOP)
    back = checkpoint.restore(root, 2, checkpoint.AGENT, agent_tree())
    assert_trees_equal(back, agent_tree(2))
    assert_trees_equal(checkpoint.restore(root, 2, checkpoint.LOOP, LOOP), LOOP)
    stored = checkpoint.stored_arrays(root, 2, checkpoint.LOOP)
    assert stored is not None
    assert set(stored) == {"buffer", "unrolls"}


@pytest.mark.parametrize("part", [checkpoint.AGENT, checkpoint.LOOP])
def test_unreadable_write_keeps_the_older_checkpoint(
    tmp_path, monkeypatch, part, assert_trees_equal
):
    checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    write = checkpoint.write_tensors

    def write_and_damage(file, tree):
        write(file, tree)
        if file.stem == part:
            file.write_bytes(b"")

    monkeypatch.setattr(checkpoint, "write_tensors", write_and_damage)
    with pytest.raises(UserError, match="Nothing was lost: round 1 is the last good checkpoint"):
        checkpoint.save(tmp_path, 2, agent_tree(), LOOP)
    assert checkpoint.newest_intact(tmp_path) == (1, [])
    assert_trees_equal(checkpoint.restore(tmp_path, 1, checkpoint.LOOP, LOOP), LOOP)


def test_wrong_write_keeps_the_older_checkpoint_intact(tmp_path, monkeypatch, assert_trees_equal):
    checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    write = checkpoint.write_tensors

    def write_wrongly(file, tree):
        write(file, jax.tree.map(lambda leaf: leaf + leaf.dtype.type(1), tree))

    monkeypatch.setattr(checkpoint, "write_tensors", write_wrongly)
    with pytest.raises(UserError, match=r"buffer in .* is not what was written. Nothing was lost"):
        checkpoint.save(tmp_path, 2, LOOP, LOOP)
    assert checkpoint.steps(tmp_path) == [1]
    assert_trees_equal(checkpoint.restore(tmp_path, 1, checkpoint.LOOP, LOOP), LOOP)


def test_saving_a_round_twice_replaces_it(tmp_path, assert_trees_equal):
    for value in (1.0, 2.0):
        checkpoint.save(tmp_path, 4, agent_tree(value), LOOP)
    back = checkpoint.restore(tmp_path, 4, checkpoint.AGENT, agent_tree())
    assert_trees_equal(back, agent_tree(2.0))


@pytest.mark.parametrize("part", [checkpoint.AGENT, checkpoint.LOOP])
def test_flipped_bits_and_truncation_are_detected(tmp_path, part) -> None:
    tree = {"kernel": np.arange(3, dtype=np.float32), "count": np.int32(7)}
    checkpoint.save(tmp_path, 1, tree, tree)
    file = tmp_path / f"{1:012d}" / f"{part}.safetensors"
    whole = file.read_bytes()
    flipped = (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole)))
    for damaged in (*flipped, *(whole[:end] for end in range(len(whole))), whole + b" "):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=re.escape(f"{file} is damaged")):
            checkpoint.restore(tmp_path, 1, part, tree)
    with pytest.raises(UserError, match=r"Restore it from a copy, or start a new run\.$"):
        checkpoint.restore(tmp_path, 1, part, tree)
    file.write_bytes(whole)
    checkpoint.restore(tmp_path, 1, part, tree)


def test_the_checkpoint_before_a_damaged_one_is_named(tmp_path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, LOOP, LOOP)
    newest = tmp_path / f"{2:012d}"
    empty(newest / "agent.safetensors")
    with pytest.raises(UserError, match=f"or move {newest} away, to use the checkpoint before it"):
        checkpoint.restore(tmp_path, 2, checkpoint.AGENT, LOOP)
    newest.rename(tmp_path / "away")  # what it advises
    assert checkpoint.latest(tmp_path) == 1
    checkpoint.restore(tmp_path, 1, checkpoint.AGENT, LOOP)


def test_a_missing_file_part_or_checkpoint_is_named(tmp_path):
    checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    directory = tmp_path / f"{1:012d}"
    victim = directory / "agent.safetensors"
    victim.unlink()
    with pytest.raises(UserError, match=re.escape(str(victim))):
        checkpoint.restore(tmp_path, 1, checkpoint.AGENT, agent_tree())
    (directory / "loop.sha256.json").unlink()
    with pytest.raises(UserError, match=f"{directory} has no whole part 'loop'"):
        checkpoint.restore(tmp_path, 1, checkpoint.LOOP, LOOP)
    with pytest.raises(UserError, match="000000000009 has no whole part 'agent'"):
        checkpoint.restore(tmp_path, 9, checkpoint.AGENT, agent_tree())


def empty(file: Path) -> None:
    file.write_bytes(b"")


def halve(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


DAMAGES = {
    "every file empty": lambda root: [empty(file) for file in root.rglob("*") if file.is_file()],
    "listing empty": lambda root: empty(root / "loop.sha256.json"),
    "listing torn": lambda root: halve(root / "agent.sha256.json"),
    "listing without names": lambda root: (root / "agent.sha256.json").write_text("{}"),
    "listing no object": lambda root: (root / "loop.sha256.json").write_text("[1]"),
    "listing binary": lambda root: (root / "loop.sha256.json").write_bytes(b"\xff\xfe\x00"),
    "listing of another file": lambda root: shutil.copy(
        root / "loop.sha256.json", root / "agent.sha256.json"
    ),
    "listing gone": lambda root: (root / "loop.sha256.json").unlink(),
    "part gone": lambda root: (root / "loop.safetensors").unlink(),
    "a part of another format beside it": lambda root: write_orbax(root, LOOP, "loop"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoint_is_skipped(tmp_path, damage, assert_trees_equal):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, agent_tree(step), LOOP)
    damage(tmp_path / f"{3:012d}")
    step, problems = checkpoint.newest_intact(tmp_path)
    assert step == 2
    assert len(problems) == 1
    assert f"{3:012d}" in problems[0]
    checkpoint.set_aside(tmp_path, after=2)
    assert checkpoint.steps(tmp_path) == [1, 2]
    assert_trees_equal(checkpoint.restore(tmp_path, 2, checkpoint.LOOP, LOOP), LOOP)
    checkpoint.save(tmp_path, 3, agent_tree(3), LOOP)
    assert checkpoint.newest_intact(tmp_path) == (3, [])
    assert not list(tmp_path.glob(".damaged-*"))


def test_resume_needs_an_intact_checkpoint(tmp_path):
    assert checkpoint.newest_intact(tmp_path) == (None, [])
    checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    DAMAGES["every file empty"](tmp_path)
    step, problems = checkpoint.newest_intact(tmp_path)
    assert step is None
    assert len(problems) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": jnp.zeros((3, 5))},
        {"kernel": jnp.zeros((4, 3))},
        {"count": jnp.zeros((), jnp.float32)},
        {"extra": jnp.zeros(2)},
        {"empty": jnp.zeros((5, 1), jnp.uint32)},
    ],
    ids=["wider", "transposed", "other dtype", "one more", "no longer empty"],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, change):
    checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    with pytest.raises(UserError, match=r"does not fit its config.json"):
        checkpoint.restore(tmp_path, 1, checkpoint.AGENT, {**agent_tree(), **change})


def test_leftovers_of_a_killed_writer_are_removed(tmp_path, assert_trees_equal):
    checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    # Round 1 was ended by a signal during its write, and no later process saves at that round.
    halves = [tmp_path / ".writing-1", tmp_path / ".writing-2"]
    for half in halves:
        half.mkdir()
        (half / "agent.safetensors").write_text("half")
    assert checkpoint.latest(tmp_path) == 1
    checkpoint.save(tmp_path, 2, agent_tree(2.0), LOOP)
    assert checkpoint.latest(tmp_path) == 2
    assert not any(half.exists() for half in halves)
    back = checkpoint.restore(tmp_path, 2, checkpoint.AGENT, agent_tree())
    assert_trees_equal(back, agent_tree(2.0))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(ZeroDivisionError, "ZeroDivisionError"), (MemoryError, "Free some memory")],
)
def test_error_without_a_message_gives_a_sentence(tmp_path, monkeypatch, kind, expected):
    def fail(*_):
        raise kind

    monkeypatch.setattr(checkpoint, "write_tensors", fail)
    with pytest.raises(UserError, match=r"checkpoint of round 1 .*there is none") as error:
        checkpoint.save(tmp_path, 1, agent_tree(), LOOP)
    assert expected in str(error.value)


FULL_DISK = """
    import logging, pathlib, resource, sys
    import numpy as np
    from kilolayer.runtime import checkpoint
    from kilolayer.errors import UserError

    logging.disable(logging.CRITICAL)
    root = pathlib.Path(sys.argv[1])
    noise = np.random.default_rng(0).normal(size=100_000)
    checkpoint.save(root, 5, {"kernel": noise}, {"buffer": noise})
    # From here on, no file may grow past 64 KiB: real writes that really fail.
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    try:
        checkpoint.save(root, 6, {"kernel": noise + 1}, {"buffer": noise})
    except UserError as error:
        print(error)
    assert checkpoint.steps(root) == [5], checkpoint.steps(root)
    assert [path.name for path in root.iterdir()] == ["000000000005"]
    for part, name in ((checkpoint.AGENT, "kernel"), (checkpoint.LOOP, "buffer")):
        back = checkpoint.restore(root, 5, part, {name: noise})
        assert np.array_equal(back[name], noise)
    print("still readable")
"""


def test_full_disk_keeps_the_last_checkpoint_and_names_it(tmp_path):
    done = run_script(FULL_DISK, tmp_path)
    assert done.returncode == 0, done.stderr
    message, after = done.stdout.strip().splitlines()
    assert message.startswith(f"cannot write the checkpoint of round 6 in {tmp_path}")
    assert "round 5 is the last good checkpoint, from which `--resume` goes on" in message
    assert "File too large" in message
    assert "ulimit -f" in message  # not: free some space
    assert after == "still readable"
