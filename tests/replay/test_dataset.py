"""Dataset files: boundaries of trajectories, and one sentence for every bad file."""

from pathlib import Path

import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.replay.dataset import KEYS, read_dataset, write_dataset


def arrays(terminals: list[int]) -> dict[str, np.ndarray]:
    """As OGBench writes them, for an observation of 4, an action of 2, a qpos and a qvel of 2."""
    generator, steps = np.random.default_rng(0), len(terminals)
    sizes = {"observations": 4, "actions": 2, "qpos": 2, "qvel": 2}
    numbers = {
        name: generator.uniform(-1, 1, (steps, size)).astype(np.float32)
        for name, size in sizes.items()
    }
    return numbers | {"terminals": np.array(terminals, bool)}


@pytest.mark.parametrize(
    ("terminals", "episode_step", "trajectories", "longest"),
    [
        ([0, 0, 1, 0, 1, 1, 0, 1], [0, 1, 2, 0, 1, 0, 0, 1], 4, 3),
        ([0, 1, 0, 0], [0, 1, 0, 1], 2, 2),  # the last one is cut by the end of the file
        ([1], [0], 1, 1),
    ],
)
def test_episode_steps_restart_after_a_terminal(
    terminals, episode_step, trajectories, longest, tmp_path
):
    write_dataset(tmp_path / "d.npz", arrays(terminals))
    dataset = read_dataset(tmp_path / "d.npz")
    assert dataset.episode_step.tolist() == episode_step
    assert dataset.episode_step.dtype == np.int32
    assert (dataset.steps, dataset.trajectories) == (len(episode_step), trajectories)
    assert dataset.longest == longest


def test_dataset_round_trips_with_its_checksum(tmp_path):
    import hashlib

    written, path = arrays([0, 0, 1, 0, 1]), tmp_path / "d.npz"
    write_dataset(path, written)
    dataset = read_dataset(path)
    for name, array in written.items():
        np.testing.assert_array_equal(getattr(dataset, name), array, strict=True)
    content = path.read_bytes()
    assert dataset.fingerprint == {
        "path": str(path),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert [file.name for file in tmp_path.iterdir()] == ["d.npz"]
    write_dataset(path, written)
    assert path.read_bytes() == content


def test_other_dtypes_and_extra_arrays_are_accepted(tmp_path):
    stored = arrays([0, 1])
    other = {name: array.astype(np.float64) for name, array in stored.items()}
    np.savez(tmp_path / "d.npz", button_states=np.zeros((2, 3)), **other)
    dataset = read_dataset(tmp_path / "d.npz")
    np.testing.assert_array_equal(dataset.qpos, stored["qpos"], strict=True)
    np.testing.assert_array_equal(dataset.terminals, [False, True], strict=True)


def broken(**changes) -> dict[str, np.ndarray]:
    stored = arrays([0, 0, 1, 1])
    for name, change in changes.items():
        stored[name] = change(stored[name].copy())
    return {name: array for name, array in stored.items() if array is not None}


def poison(array):
    array[2, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qpos": lambda a: None}, "it has no 'qpos'; OGBench's layout has observations, actions"),
        ({"actions": lambda a: a[:3]}, "arrays differ in length: .*actions 3"),
        ({"observations": poison}, "observations is not finite at step 2"),
        ({"terminals": lambda a: 0 * a}, "terminals has no 1, so the ends of its trajectories"),
        ({"terminals": lambda a: 3 * a}, "terminals must be 0 or 1"),
        (
            {"terminals": lambda a: a[:, None]},
            r"terminals is float32\[4, 1\] where numbers \[steps",
        ),
        ({"actions": lambda a: 3 * np.sign(a)}, r"its actions reach 3 where .* in \[-1, 1\]"),
        ({"qvel": lambda a: a.astype(str)}, "qvel is <U.* where numbers"),
        ({"qvel": lambda a: a.astype(object)}, "one that holds Python objects: save plain"),
        ({name: lambda a: a[:0] for name in KEYS}, "it holds no steps"),
        ({"actions": lambda a: np.full_like(a, 1.00002)}, r"reach 1\.0000\d+ .*: divide them"),
    ],
)
def test_invalid_layouts_are_refused(changes, words, tmp_path):
    np.savez(tmp_path / "d.npz", **broken(**changes))
    with pytest.raises(UserError, match=words) as error:
        read_dataset(tmp_path / "d.npz")
    assert str(error.value).startswith(f"dataset = '{tmp_path / 'd.npz'}' is not allowed: ")


NO_ARCHIVES = {
    b"": "it is no .npz file",
    b"no archive": "it is no .npz file",
    b"PK\x03\x04 half an archive": "it is a damaged .npz file",
    b"version https://git-lfs.github.com/spec/v1": "pointer of Git LFS: .* `git lfs pull`",
    b"\x89HDF\r\n\x1a\n": "it is an HDF5 file",
    b"\x80\x04\x95": "it is a pickle, which is never opened",
    b"\x1f\x8b\x08": "it is compressed with gzip",
}


@pytest.mark.parametrize("content", NO_ARCHIVES)
def test_error_names_the_type_of_a_file_that_is_not_npz(content, tmp_path):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(UserError, match=NO_ARCHIVES[content]) as error:
        read_dataset(tmp_path / "d.npz")
    assert "unsafe" not in str(error.value)
    assert "allow_pickle" not in str(error.value)


def test_single_array_file_is_refused(tmp_path):
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(UserError, match="it holds one array"):
        read_dataset(tmp_path / "d.npy")


def test_missing_or_unreadable_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="there is no such file; `kilolayer collect` makes one"):
        read_dataset(tmp_path / "d.npz")
    with pytest.raises(UserError, match=r"cannot read the dataset .*: Is a directory"):
        read_dataset(tmp_path)


def test_unwritable_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"cannot write .*: No such file"):
        write_dataset(tmp_path / "missing" / "d.npz", arrays([1]))
