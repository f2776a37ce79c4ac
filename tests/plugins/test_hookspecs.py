"""The hooks."""

import inspect

from aezoo.plugins import hookspecs
from aezoo.plugins.hookspecs import HOOKS, PROJECT
from tests.plugins.installed import OPEN


def test_every_hook_is_documented_and_belongs_to_a_family() -> None:
    hooks = {name: f for name, f in vars(hookspecs).items() if hasattr(f, f"{PROJECT}_spec")}
    assert list(hooks) == list(HOOKS.values())
    assert list(HOOKS) == [root.family for root in OPEN]
    for root in OPEN:
        documentation = inspect.getdoc(hooks[HOOKS[root.family]]) or ""
        assert f"`aezoo.{root.__name__}`" in documentation
