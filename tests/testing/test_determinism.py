"""Random states and local time are controlled inside a context and restored after it."""

import datetime
import os
import random
import time

import numpy as np
import pytest
import torch

from aezoo.testing.determinism import changed_rng, half_a_day_away, rng_states, seeded
from aezoo.testing.observation import another_day


def test_seeded_restores_all_random_states() -> None:
    before, python = rng_states(), random.getstate()
    with seeded(1):
        first = torch.rand(3)
        np.random.rand()
        assert changed_rng(before) == "PyTorch's and NumPy's global random state changed"
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    assert changed_rng(before) is None
    assert random.getstate() == python


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"])
def test_local_time_is_shifted_by_half_a_day_and_restored(
    zone: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if zone is None:
        monkeypatch.delenv("TZ", raising=False)
    else:
        monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        offset = time.localtime().tm_gmtoff
        with half_a_day_away():
            assert abs(time.localtime().tm_gmtoff - offset) == 12 * 3600
            assert datetime.datetime.now().hour == time.localtime().tm_hour
        assert time.localtime().tm_gmtoff == offset
        assert os.environ.get("TZ") == zone
    finally:
        monkeypatch.undo()
        time.tzset()


def test_clocks_are_moved_for_a_package_and_restored() -> None:
    before = (time.time, time.gmtime, datetime.datetime, datetime.date)
    now, year_day = time.time(), time.gmtime().tm_yday
    instant = datetime.datetime.now(datetime.UTC)
    with another_day(pytest.Item):
        assert time.time() - now > 200 * 24 * 3600
        assert time.gmtime().tm_yday != year_day
        assert (datetime.datetime.now(datetime.UTC) - instant).days == 200
        assert (datetime.date.today() - instant.date()).days >= 200
        assert datetime.datetime.now().hour == time.localtime().tm_hour
        assert isinstance(instant, datetime.datetime)
    assert (time.time, time.gmtime, datetime.datetime, datetime.date) == before
