#!/usr/bin/env bash
# Depth on real bodies, on one GPU: depths 4, 16 and 64 of two tasks, three seeds as one program,
# physics on the processor's cores. About 12 minutes.
#
# bash benchmarks/depth_on_gpu.sh [FOLDER [SECONDS [OPTION...]]]
#
# Each run gets SECONDS (default: 120), then saves and ends. The same command continues every run
# that is not finished. OPTION: options of `kilolayer train` for new runs.
set -u
folder=${1:-runs/depth_on_gpu}
seconds=${2:-120}

for task in ant_big_maze ant; do
    for depth in 4 16 64; do
        run="$folder/$task-depth$depth"
        if [ -e "$run/DONE" ]; then continue; fi
        if [ -e "$run/config.json" ]; then
            options=(--resume "$run")
        else
            options=(--task "$task" --depth "$depth" --seeds 3 --physics native --out "$run" "${@:3}")
        fi
        echo "== $task, depth $depth"
        timeout --signal=TERM --kill-after=60 "$seconds" kilolayer train "${options[@]}"
    done
done
kilolayer runs "$folder"
