#!/usr/bin/env bash
# Depth on real bodies, on one GPU, physics on the processor's cores: the arm of results/depth_body
# at depth 64, five seeds as one program, and an ant maze at depths 64 and 4, two seeds each. The
# three train at once: while one steps its bodies, another one has the GPU. Then the other depths of
# these tasks, and the ant on open ground. With 16 cores the first three had made 24 to 48 % of
# their steps after 6 minutes; the others were not run on a GPU.
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
train arm_push_easy-depth16 --task arm_push_easy --depth 16 --seed 10 --seeds 5 &
train arm_push_easy-depth4 --task arm_push_easy --depth 4 --seed 10 --seeds 5 &
train ant_big_maze-depth16 "${maze[@]}" --depth 16 &
wait
for depth in 4 16 64; do train "ant-depth$depth" --task ant --depth $depth --seeds 3 & done
wait
tail -n 3 "$folder"/*.txt
