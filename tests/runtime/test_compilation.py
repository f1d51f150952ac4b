"""The compilation cache: on for every command, in the user's cache folder, the same results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kilolayer.runtime import startup

PROGRAM = """
import os, sys
from kilolayer.runtime.startup import keep_compiled_programs
keep_compiled_programs()
import jax, jax.numpy as jnp
from jax._src import monitoring
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name))
f = jax.jit(lambda x: sum(jnp.sin(x @ x.T * k).sum() for k in range(60)))
print(f(jnp.ones((40, 40)) / 7).item().hex())
print(sum("cache_hits" in name for name in hits))
"""


def run(cache: Path, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        # The level as JAX sets it in a process that starts another.
        env={**clean, "XDG_CACHE_HOME": str(cache), "TF_CPP_MIN_LOG_LEVEL": "1", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_compilation_cache_is_reused_bit_identically(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    off = run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")
    assert first[0] == second[0] == off[0]
    assert (first[1], off[1]) == ("0", "0")
    assert int(second[1]) >= 1
    assert list((tmp_path / "kilolayer").glob("compiled-*/*"))


def test_user_cache_folder_prints_no_messages(tmp_path):
    mine = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine")}
    mine["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    run(tmp_path, **mine)
    assert int(run(tmp_path, **mine)[1]) >= 1


def test_user_settings_are_kept(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_MAX_SIZE", raising=False)
    startup.keep_compiled_programs()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ


@pytest.mark.parametrize("given", [None, "77"])
def test_cache_size_is_bounded(monkeypatch, tmp_path, given):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("DIR", "MAX_SIZE"):
        monkeypatch.delenv(f"JAX_COMPILATION_CACHE_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if given:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", given)
    startup.keep_compiled_programs()
    bound = int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"])
    assert bound == int(given or startup.MAX_BYTES)
