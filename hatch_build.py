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
        index = json.loads((zoo / "index.json").read_text("utf-8"))["variants"]
        include = build_data["force_include"]
        include[str(zoo / "index.json")] = "aezoo/_zoo/index.json"
        for config in sorted(zoo.glob("*/config.json")):
            files = [file for file in sorted(config.parent.iterdir()) if file.is_file()]
            small = sum(file.stat().st_size for file in files) <= MAX_BYTES
            if small or index[config.parent.name]["commit"] is None:
                for file in files:
                    include[str(file)] = f"aezoo/_zoo/{config.parent.name}/{file.name}"
