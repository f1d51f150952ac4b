#!/usr/bin/env bash
# Times the update on one GPU for the table of results/gpu. About 8 minutes; never more than 10.
#
# bash benchmarks/lean_on_gpu.sh [FOLDER]
#
# Writes times.md, losses.md, times_unroll.md and, for two flags of XLA, times_while.md and
# times_slices.md to FOLDER (default: the current one). The most important is first.
set -u
out=${1:-.}
python=${PYTHON:-python}
lean() { timeout "$1" "$python" -m benchmarks.lean --repeats 5 "${@:2}"; }

lean 300 --depths 64 4 16 1024 256 --ways apart lean towers | tee "$out/times.md"
lean 60 --depths 64 --ways apart towers --repeats 0 --losses 200 | tee "$out/losses.md"
lean 100 --depths 64 --ways apart towers --scan-unroll 4 | tee "$out/times_unroll.md"
# Loops as nodes of a graph, and loops whose slices stay in the kernels that use them.
XLA_FLAGS=--xla_gpu_enable_command_buffer=+WHILE \
    lean 60 --depths 64 1024 --ways towers | tee "$out/times_while.md"
XLA_FLAGS="--xla_gpu_enable_command_buffer=+WHILE --xla_disable_hlo_passes=dynamic-slice-annotator" \
    lean 60 --depths 64 1024 --ways towers | tee "$out/times_slices.md"
