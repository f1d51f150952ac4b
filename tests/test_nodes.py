"""How many kernels a GPU must start for an update: the count, and its bound."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import nodes

from probes import exhaustive

# A program with a loop over segments of blocks, in the form in which XLA lists what it starts.
LISTING = """\
000: kCommandBuffer [source       | next=006 (1)]
    001: kCopy         [source       | next=002 (1)] kCopy
    002: kCustomKernel [prev=001 (1) | sink        ] gemm_fusion_dot_5
003: kWhile         [prev=000 (1) | next=024 (1)]
condition:
    004: kCustomKernel [source | sink] loop_compare_fusion
  body:
    000: kCommandBuffer [source | sink]
        005: kCustomKernel [source       | next=012 (4)] loop_slice_fusion_3
        006: kCustomKernel [source       | next=010 (1)] loop_add_fusion
    007: kWhile         [prev=000 (1) | next=024 (1)]
    condition:
        008: kCustomKernel [source | sink] loop_compare_fusion
      body:
        009: kAsyncStart   [source | next=059 (18)] stream=computation_stream[2], async_id=7
            011: kDynamicSliceFusion [source | sink] params=1, results=1
                010: kCopy [source | sink] kCopy
        012: kAsyncDone    [source | sink] async_id=9
        013: kGemm         [source | sink] custom-call
        014: kCustomKernel [source | sink] loop_add_fusion
    015: kCustomKernel [source | sink] loop_add_fusion
016: kWhile         [prev=000 (1) | next=024 (1)]
condition:
    017: kCustomKernel [source | sink] loop_compare_fusion
  body:
    018: kCustomKernel [source | sink] loop_add_fusion
019: kCustomKernel [source | sink] loop_add_fusion
"""


def test_kernel_launches_are_counted_per_loop():
    program = nodes.read_thunks(LISTING)
    assert program.nodes == 3
    segments, blocks = program.inner
    assert (segments.nodes, blocks.nodes) == (3, 1)
    assert [loop.nodes for loop in program.passes()] == [3, 1]
    # 32 blocks are two segments of 16.
    assert program.started(32) == 3 + 2 * (3 + 16 * 3) + 32 * 1


@exhaustive
@pytest.mark.skipif(not nodes.installed(), reason=nodes.MISSING)
def test_update_launches_at_most_a_third_of_autodiffs_kernels():
    root = Path(nodes.__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "benchmarks.nodes", "--depths", "64"]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    rows = re.findall(r"\| 64 \| (\w+) \| (\d+) \| (\d+) = [^|]* \| (\d+) \|", done.stdout)
    found = {way: tuple(map(int, counts)) for way, *counts in rows}
    assert found["apart"][0] == found["lean"][0] == 8  # passes
    assert found["towers"][0] == 4
    for autodiff, towers in zip(found["apart"][1:], found["towers"][1:], strict=True):
        assert towers <= autodiff / 3
