"""Paths that no file system has, given to every function that takes a path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.zoo.model_card import card
from aezoo.zoo.push import plan_push
from tests.training.networks import IMAGES, spec_of
from tests.zoo.folders import network

BAD = {
    "long": "./" + "a" * 5000,
    "long below": "./nosuch/" + "a" * 300,
    "null byte": "./x\0y",
    "user": "~nosuch-user/x",
}


def train(path: str, **options: Any) -> object:
    return aezoo.train_to_folder(spec_of(), path, IMAGES, device="cpu", progress=False, **options)


USES: dict[str, Callable[[str], object]] = {
    "load": aezoo.load,
    "load a Path": lambda path: aezoo.load(Path(path)),
    "get_spec": aezoo.get_spec,
    "save": lambda path: aezoo.save(network(), path),
    "train_to_folder": train,
    "resume": lambda path: train(path, resume=True),
    "train": lambda path: aezoo.train(spec_of(), IMAGES, device="cpu", progress=False, resume=path),
    "init_from": lambda path: aezoo.train(spec_of(init_from=path), IMAGES, device="cpu", progress=False),
    "read_spec": aezoo.read_spec,
    "card": card,
    "push": lambda path: plan_push(path, org="ann"),
    "pull": lambda path: aezoo.pull("swissroll-2", to=path),
}
TILDE = {"load", "load a Path", "get_spec", "init_from", "push", "pull"}
"""Uses in which `~` stands for a home folder; elsewhere it is a name like any other."""


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("bad", BAD)
def test_a_path_that_cannot_exist_is_one_line(
    use: str, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if (bad == "user" and use not in TILDE) or (bad == "long" and use == "init_from"):
        return  # the spec itself limits `init_from`
    with pytest.raises(aezoo.AezooError) as caught:
        USES[use](BAD[bad])
    assert str(caught.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} <= {"nosuch"}
