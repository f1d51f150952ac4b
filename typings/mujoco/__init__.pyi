# MuJoCo ships no type stubs for its compiled module.
from typing import Any

def __getattr__(name: str) -> Any: ...
