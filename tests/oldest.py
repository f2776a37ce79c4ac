"""Prints constraints for pip: the lowest version of every dependency that aezoo and its plugins allow."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def requirements(pyproject: Path) -> Iterator[Requirement]:
    """The requirements of a project: to build it, to run it, and of its extras."""
    data = tomllib.loads(pyproject.read_text("utf-8"))
    extras = data["project"].get("optional-dependencies", {})
    for group in (data["build-system"]["requires"], data["project"]["dependencies"], *extras.values()):
        yield from map(Requirement, group)


def lowest_versions(*pyprojects: Path) -> dict[str, Version]:
    """The highest lower bound of each requirement by name; aezoo and its plugins are left out.

    Raises:
        ValueError: a requirement is not `NAME>=VERSION` or `NAME==VERSION`.
    """
    found: dict[str, Version] = {}
    for requirement in (r for pyproject in pyprojects for r in requirements(pyproject)):
        name = canonicalize_name(requirement.name)
        if name.split("-")[0] == "aezoo":
            continue
        bounds = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==")]
        if len(bounds) != 1:
            raise ValueError(f"{requirement}: expected one lower bound")
        found[name] = max(bounds[0], found.get(name, bounds[0]))
    return found


def constraints() -> str:
    """The lowest versions that this repository allows, in the format of pip's constraints files."""
    pyprojects = (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"))
    return "".join(f"{name}=={version}\n" for name, version in sorted(lowest_versions(*pyprojects).items()))


if __name__ == "__main__":
    print(constraints(), end="")
