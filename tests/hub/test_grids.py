"""The birth of grids: universal, learned, baseline."""

from typing import Any

import numpy as np
import pytest

from driftline.errors import EntityNotFoundError
from driftline.hub import grids
from driftline.summary.grid import UNIVERSAL, Grid, quantile_grid

START_S = 1_767_261_600
FIELD = "out.brightness"


@pytest.fixture
def till(ask: Any):
    return ask.observed_pipeline()


@pytest.fixture
def camera(ask: Any, till: Any):
    return ask.joined("camera-1", till)


def sent(camera: Any, till: Any, values: Any, start_s: Any = START_S, key: Any = FIELD):
    return camera.send(camera.rows(till["versions"][0]["id"], start_s, {key: values}))


def test_the_universal_grid_is_always_there_and_an_unknown_one_never(hub: Any):
    assert grids.edges(hub, UNIVERSAL.id) is UNIVERSAL
    with pytest.raises(EntityNotFoundError, match="never made"):
        grids.edges(hub, "ab" * 8)


def test_the_first_thousand_values_make_the_learned_grid_and_it_stays(hub: Any, camera: Any, till: Any):
    values = np.random.default_rng(1).normal(100, 5, 1200).round(6).tolist()
    sent(camera, till, values[:999])
    assert camera.desired.pipelines[0].grids == {}
    sent(camera, till, values[999:1100], START_S + 60)
    expected = quantile_grid(values[:1000])
    assert camera.desired.pipelines[0].grids == {FIELD: expected.id}
    assert camera.desired.grids[expected.id] == expected.edges
    assert grids.edges(hub, expected.id).edges == expected.edges
    sent(camera, till, [5.0] * 1000, START_S + 120)
    assert camera.desired.pipelines[0].grids == {FIELD: expected.id}


def test_missing_values_are_not_learned_from(camera: Any, till: Any):
    sent(camera, till, [None, 1.0] * 999)
    assert camera.desired.pipelines[0].grids == {}
    sent(camera, till, [2.0], START_S + 60)
    assert list(camera.desired.pipelines[0].grids) == [FIELD]


def test_a_field_that_never_has_a_value_stays_on_the_universal_grid(camera: Any, till: Any, hub: Any):
    sent(camera, till, [None] * grids.INFERENCES_LOOKED_AT)
    assert camera.desired.pipelines[0].grids == {}
    assert grids.learn(hub, till["id"]) == []


def test_a_baselines_grid_replaces_a_learned_one_and_is_not_learned_over(hub: Any, camera: Any, till: Any):
    baseline = Grid((1.0, 2.0, 3.0))
    grids.set_baseline_grid(hub, till["id"], FIELD, baseline)
    sent(camera, till, [float(at) for at in range(1000)])
    assert camera.desired.pipelines[0].grids == {FIELD: baseline.id}
    newer = Grid((1.0, 2.0, 4.0))
    grids.set_baseline_grid(hub, till["id"], FIELD, newer)
    camera.send()
    assert camera.desired.pipelines[0].grids == {FIELD: newer.id}
    assert grids.edges(hub, baseline.id).edges == (1.0, 2.0, 3.0)
