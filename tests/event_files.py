"""What TensorBoard and Weights & Biases show of the files that a run has written for them."""

import json
import struct
import time
from pathlib import Path
from typing import Any


def scalars_shown(directory: Path) -> dict[tuple[str, int], float]:
    """By tag and step, as TensorBoard shows them: where a file says that a session starts at a
    step, it drops all earlier points from that step on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown: dict[tuple[str, int], float] = {}
    for path in sorted((directory / "tensorboard").iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 12 + length + 4
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


def wandb_history(directory: Path) -> dict[str, dict[tuple[str, int], float]]:
    """By the id of each run that was logged offline: its values by name and step."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, dict[tuple[str, int], float]] = {}
    for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        values = found.setdefault(path.stem.removeprefix("run-"), {})
        records: list[Any] = []
        # A process of its own writes the file, and may still do so when the run was finished.
        for _ in range(100):
            records = [Record.FromString(data) for data in _records(path.read_bytes())]
            if any(record.HasField("exit") for record in records):
                break
            time.sleep(0.1)
        for history in (record.history for record in records):
            for item in history.item:
                name = item.key or ".".join(item.nested_key)
                if not name.startswith("_"):
                    values[name, history.step.num] = json.loads(item.value_json)
    return found


def _records(data: bytes) -> list[bytes]:
    """The records of a file in LevelDB's log format, after a header of seven bytes."""
    block, place, records, parts = 32768, 7, [], b""
    while place + 7 <= len(data):
        if block - place % block < 7:  # no header fits into the rest of the block
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        part = data[place + 7 : place + 7 + length]
        place += 7 + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):  # whole, or the last part
            records.append(parts)
    return records
