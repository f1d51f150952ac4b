#!/usr/bin/env bash
# Depth on real bodies, on one GPU, physics on the processor's cores: the arm of results/depth_body
# at depth 64, five seeds as one program, and an ant maze at depths 64 and 4, two seeds each. The
# three train at once: while one steps its bodies, another one has the GPU. About 20 minutes with
# 16 cores: after 6 they had made 24 to 48 % of their steps.
#
# bash benchmarks/depth_on_gpu.sh [FOLDER [SECONDS [OPTION...]]]
#
# Each run gets SECONDS (default: 500), then saves and ends. The same command continues every run
# that is not finished. OPTION: options of `kilolayer train` for new runs.
set -u
folder=${1:-runs/depth_on_gpu}
seconds=${2:-500}
more=("${@:3}")
python=${PYTHON:-python}
export XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$folder"

train() { # NAME OPTION...
    local run="$folder/$1" options
    if [ -e "$run/DONE" ]; then return; fi
    if [ -e "$run/config.json" ]; then
        options=(--resume "$run")
    else
        options=(--physics native --no-profile --out "$run" "${@:2}" "${more[@]}")
    fi
    timeout --signal=TERM --kill-after=60 "$seconds" \
        "$python" -m kilolayer train "${options[@]}" > "$folder/$1.txt" 2>&1
}

maze=(--task ant_big_maze --total-steps 2000000 --num-evaluations 4 --seed 0 --seeds 2)
train arm_push_easy-depth64 --task arm_push_easy --depth 64 --seed 10 --seeds 5 &
train ant_big_maze-depth64 "${maze[@]}" --depth 64 &
train ant_big_maze-depth4 "${maze[@]}" --depth 4 &
wait
tail -n 3 "$folder"/*.txt
