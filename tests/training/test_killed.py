"""Saving, training and resuming, stopped at every call of the file system: old or new, and nothing left over."""

from contextlib import suppress
from pathlib import Path

import pytest

import aezoo
from aezoo.zoo.schema import CONFIG, SPEC, WEIGHTS
from tests.killing import Killed, stopped_at
from tests.training.networks import IMAGES, spec_of, stage
from tests.zoo.folders import contents, network

LIMIT = 1000
"""More calls than any of the functions makes."""
Bytes = dict[str, bytes]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "Ctrl-C"])
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_folder_that_is_replaced_is_old_or_new(
    step: int, killed: bool, exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr("aezoo.files.exchange", lambda a, b: False)  # as on systems that cannot
    old, new = network(1), network(2)
    before, after = (contents(aezoo.save(ae, tmp_path / n / "small")) for ae, n in ((old, "a"), (new, "b")))
    found: set[str] = set()
    for number in range(0, LIMIT, step):
        place = tmp_path / f"at-{number}"
        folder = aezoo.save(old, place / "small")
        with stopped_at(number, killed=killed) as made, suppress(Killed, KeyboardInterrupt):
            aezoo.save(new, folder, overwrite=True)
        if exchange or not killed:
            assert contents(folder) in (before, after), made
        if not made[number:]:
            break
        found.add("new" if folder.exists() and contents(folder) == after else "old")
        aezoo.save(new, folder, overwrite=True)
        assert contents(folder) == after
        assert names(place) == ["small"], made
    assert number > 15
    assert "old" in found
    assert step > 1 or "new" in found
    assert contents(folder) == after


@pytest.mark.slow
def test_loading_restores_a_folder_that_was_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aezoo.files.exchange", lambda a, b: False)
    missing = 0
    for number in range(LIMIT):
        place = tmp_path / f"at-{number}"
        folder = aezoo.save(network(1), place / "small")
        with stopped_at(number, killed=True) as made, suppress(Killed):
            aezoo.save(network(2), folder, overwrite=True)
        missing += not folder.exists()
        assert aezoo.load(folder).metrics["mse"]["value"] in (0.25, 0.5)
        if not made[number:]:
            break
    assert missing == 1


def train(folder: Path, *, resume: bool = False) -> None:
    spec = spec_of(stages=[stage(1)], refit=True)
    aezoo.train_to_folder(spec, folder, IMAGES, device="cpu", progress=False, resume=resume)


def trained(folder: Path) -> Bytes:
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS, SPEC)}


def check_stopped_training(place: Path, number: int, expected: Bytes, *, killed: bool) -> bool:
    """Trains, stopped at call `number`, then resumes; returns whether the training ended by itself."""
    folder = place / "mine"
    with (
        stopped_at(number, killed=killed) as made,
        suppress(Killed, KeyboardInterrupt, aezoo.TrainingInterrupted),
    ):
        train(folder)
    if folder.exists():
        aezoo.load(folder)
    if not made[number:]:
        assert trained(folder) == expected
        return True
    train(folder, resume=True)
    assert trained(folder) == expected, made
    assert names(place) == ["mine"], made
    assert "unfinished" not in aezoo.load(folder).training_record
    return False


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "Ctrl-C"])
@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stopped_training_is_resumed_to_the_same_bytes(killed: bool, step: int, tmp_path: Path) -> None:
    train(tmp_path / "whole" / "mine")
    expected = trained(tmp_path / "whole" / "mine")
    for number in range(0, LIMIT, step):
        place = tmp_path / f"at-{number}"
        place.mkdir()
        if check_stopped_training(place, number, expected, killed=killed):
            break
    assert number > 30
