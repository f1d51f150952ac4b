"""Shared by all tests: how XLA and hypothesis run, and a few arrays."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Tests compile much and compute little: LLVM's slow passes cost more than they gain, and so does
# code generation in parts. Later versions may not know the last two flags, and an unknown one ends
# the process.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + (
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if version("jaxlib").startswith("0.10.")
        else ""
    ),
)

# XLA's pages about each program that comes from the cache would bury what a failed test prints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings
from jax.experimental.compilation_cache import compilation_cache

from kilolayer.analysis.load import Run, load
from kilolayer.config import run_config

# Each example may compile, so there is no deadline; derandomised, so a failure repeats.
settings.register_profile("kilolayer", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("kilolayer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_configure(config: pytest.Config) -> None:
    """Programs compiled once are kept, for the other tests and for the next session."""
    # JAX makes many objects while it traces and keeps most of them: to look for garbage after every
    # 700, as Python does, takes a tenth of the processor time.
    gc.set_threshold(100_000, 10, 10)
    assert config.cache is not None
    directory = str(config.cache.mkdir("jax"))
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # For the processes that tests start.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = directory
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """JAX keeps its traces and programs, which grew beyond 5 GB: each file ends without them.

    What tests of the file keep is not visited by later garbage collections.
    """
    yield
    jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.fixture
def without_compilation_cache() -> Iterator[None]:
    """For a test that times compilation. JAX decides once whether it caches, hence the resets."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.fixture
def normal() -> Callable[..., jax.Array]:
    """`normal(seed, *shape)`: standard normal float32 numbers."""

    def draw(seed: int, *shape: int) -> jax.Array:
        return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)

    return draw


@pytest.fixture
def random_module() -> Callable[..., Any]:
    """`random_module(init, *arguments)`: the module of `init(key, *arguments)` with every leaf
    drawn from a normal distribution of deviation 0.3, so that zero biases and unit scales hide
    nothing, and without compiling the initialiser."""

    def build(init: Callable[..., Any], *arguments: Any) -> Any:
        shapes = jax.eval_shape(lambda key: init(key, *arguments), jax.random.key(0))
        generator = np.random.default_rng(0)
        return jax.tree.map(
            lambda leaf: jnp.asarray(0.3 * generator.normal(size=leaf.shape), leaf.dtype), shapes
        )

    return build


@pytest.fixture
def assert_trees_equal() -> Callable[..., None]:
    """Compare two pytrees leaf by leaf, bit for bit, dtypes and shapes included."""

    def compare(left: object, right: object) -> None:
        left_leaves, left_structure = jax.tree.flatten(left)
        right_leaves, right_structure = jax.tree.flatten(right)
        assert left_structure == right_structure
        for a, b in zip(left_leaves, right_leaves, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()

    return compare


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of a few seconds: two blocks, eight environments. Read only: see
    `run_copy`."""
    # Imported late: most tests need no training loop, and a fixture is cheap until it is used.
    from kilolayer.api import train

    config = run_config(
        total_steps=640,
        num_envs=8,
        unroll_length=10,
        depth=8,
        width=16,
        representation_dim=8,
        batch_size=16,
        min_replay_steps_per_env=20,
        replay_steps_per_env=100,
        num_evaluations=2,
        eval_envs=6,
        tensorboard=False,
    )
    return train(config, tmp_path_factory.mktemp("runs") / "tiny", progress=False, report=False)


@pytest.fixture
def run_copy(tiny_run: Run, tmp_path: Path) -> Run:
    """A copy of `tiny_run` that a test may damage."""
    return load(shutil.copytree(tiny_run.path, tmp_path / "tiny"))
