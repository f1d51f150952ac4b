#!/usr/bin/env bash
# Times the update on one GPU for the table of results/gpu. About 8 minutes; never more than 12.
#
# bash benchmarks/lean_on_gpu.sh [FOLDER]
#
# Writes times.md, losses.md and, for two flags of XLA, times_while.md and times_slices.md to FOLDER
# (default: the current one). The most important is first.
set -u
out=${1:-.}
lean() { timeout "$1" python -m benchmarks.lean --repeats 5 "${@:2}"; }

lean 360 --depths 4 16 64 256 1024 --ways apart lean towers | tee "$out/times.md"
lean 90 --depths 64 --ways apart towers --repeats 1 --losses 200 | tee "$out/losses.md"
# Loops as nodes of a graph, and loops whose slices stay in the kernels that use them.
XLA_FLAGS=--xla_gpu_enable_command_buffer=+WHILE \
    lean 120 --depths 64 1024 --ways towers | tee "$out/times_while.md"
XLA_FLAGS="--xla_gpu_enable_command_buffer=+WHILE --xla_disable_hlo_passes=dynamic-slice-annotator" \
    lean 120 --depths 64 1024 --ways towers | tee "$out/times_slices.md"
