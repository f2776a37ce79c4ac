"""Build hook: puts the zoo into the wheel as `aezoo/_zoo`.

The wheel holds the index, and every variant that is small or not on the Hub yet.
"""

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MAX_BYTES = 2_000_000


class ZooHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # A checkout has its zoo next to pyproject.toml.
        zoo = Path(self.root) / "zoo"
        include = build_data["force_include"]
        include[str(zoo / "index.json")] = "aezoo/_zoo/index.json"
        # Folders that are not in the index, such as unfinished trainings, are left out.
        for name, entry in json.loads((zoo / "index.json").read_text("utf-8"))["variants"].items():
            small = sum(file["bytes"] for file in entry["files"].values()) <= MAX_BYTES
            if small or entry["commit"] is None:
                for file in entry["files"]:
                    include[str(zoo / name / file)] = f"aezoo/_zoo/{name}/{file}"
