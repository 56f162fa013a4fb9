import hashlib
from typing import Any

import numpy as np
import pytest

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import calibrate
from driftline.assay.evidence import State, alarm_level, steps
from driftline.assay.observed import Part
from driftline.assay.statistics import yardstick_of
from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import projected_parts
from driftline.pipeline.projection import Projection, directions

PARTS = (*(f"projection.{at}" for at in range(16)), "norm")
ROWS = 60  # a window's


def test_directions_are_the_bits_of_sha256_whatever_the_machine():
    (first, *_) = directions(7, 300)
    blocks = [hashlib.sha256(f"driftline projection 7 0 {block}".encode()).digest() for block in (0, 1)]
    bits = "".join(f"{byte:08b}" for byte in b"".join(blocks))[:300]
    assert first.tolist() == [1.0 if bit == "1" else -1.0 for bit in bits]


def test_directions_are_what_they_were_in_every_version():
    packed = np.packbits(directions(0, 128) > 0).tobytes()
    assert hashlib.sha256(packed).hexdigest()[:16] == "ebdf2a0460475ea8"


@pytest.mark.parametrize(("size", "count"), [(2, 2), (3, 4), (4, 8), (5, 16), (6, 16), (512, 16)])
def test_no_direction_comes_twice_nor_its_opposite(size: int, count: int):
    found = directions(0, size)
    assert found.shape == (count, size)
    assert len(projected_parts(size)) == count + 1
    products = np.abs(found @ found.T) - size * np.eye(count)
    assert products.max() < size


def test_standardised_vectors_have_a_norm_near_one_and_projections_of_their_correlation():
    rng = np.random.default_rng(1)
    vectors = rng.normal(5.0, [0.1, 1.0, 100.0, 3.0], (4000, 4))
    numbers = Projection.of_vectors(vectors).of_many(vectors)
    # By arithmetic: the mean square of standardised values is 1, and independent ones summed over √d have variance 1.
    assert (numbers[:, -1] ** 2).mean() == pytest.approx(1.0)
    assert numbers[:, :-1].std(axis=0) == pytest.approx(np.ones(8), abs=0.06)


def test_one_vector_has_the_numbers_it_has_among_many():
    vectors = np.random.default_rng(2).normal(size=(50, 40))
    made = Projection.of_vectors(vectors)
    assert tuple(made.numbers(vectors[3])) == PARTS
    assert list(made.numbers(vectors[3].tolist()).values()) == pytest.approx(made.of_many(vectors)[3].tolist())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "abc",
        1.5,
        [],
        [1.0, 2.0],
        [1.0, 2.0, float("nan")],
        [1.0, None, 2.0],
        [1.0, float("inf"), 2.0],
        ["1", "2", "3"],
        [[1.0, 2.0, 3.0]],
        [1.0, [2.0], 3.0],
        [10**400, 1, 1],
    ],
)
def test_what_is_no_vector_of_this_length_is_missing(value: Any):
    made = Projection.of_vectors(np.random.default_rng(3).normal(size=(20, 3)))
    assert set(made.numbers(value).values()) == {None}
    assert None not in made.numbers([1, 2, 3]).values()


def test_constant_elements_keep_their_unit_also_where_float32_rounds_them():
    rng = np.random.default_rng(4)
    vectors = np.column_stack([np.full(100, 0.1), np.zeros(100), rng.normal(0, 1e-9, 100) + 1000, rng.normal(size=100)])
    made = Projection.of_vectors(vectors)
    assert made.scale[:3].tolist() == [1.0, 1.0, 1.0]
    assert made.scale[3] == pytest.approx(vectors[:, 3].std())


def test_a_projection_needs_two_whole_vectors():
    nan = np.nan
    with pytest.raises(InvalidInputError, match="1 of 3 vectors have all their values; give at least 2"):
        Projection.of_vectors(np.array([[1.0, 2.0], [nan, 1.0], [1.0, np.inf]]))


# ── what it is for ───────────────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """Some fields under one promise of a false alarm in 30 days, a window every 3 minutes."""

    def __init__(self, baseline: Any) -> None:
        fields = [BaselineData.of_values(column) for column in baseline.T]
        self.calibrations = [calibrate(one, n=ROWS) for one in fields]
        self.yardsticks = [yardstick_of(one, ROWS) for one in fields]
        self.states = [State.start(one) for one in self.calibrations]
        self.level = alarm_level(len(fields), 30 * 86_400, 180)

    def alarms(self, rows: Any) -> bool:
        """Count a window and say whether any field alarms."""
        measured = [one.measure([Part(values=rows[:, at].copy())]) for at, one in enumerate(self.yardsticks)]
        found = steps(self.calibrations, self.states, measured, [self.level] * len(measured))
        self.states = [after for after, _ in found]
        return any(answer.status == "Alert" for _, answer in found)


class Embeddings:
    """Normal vectors of 32 elements with variance 1, of which two hidden causes explain 60 %."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        loadings = self.rng.normal(size=(32, 2))
        self.loadings = loadings * np.sqrt(0.6 / (loadings**2).sum(axis=1, keepdims=True))

    def rows(self, count: int, *, turned: bool = False) -> Any:
        """Return vectors; turned, every second element goes against the causes, and is distributed as before."""
        sign = np.where(np.arange(32) % 2, -1.0, 1.0)[:, None] if turned else 1.0
        causes = self.rng.normal(size=(count, 2))
        return causes @ (self.loadings * sign).T + self.rng.normal(size=(count, 32)) * np.sqrt(0.4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_joint_drift_that_leaves_every_element_alone_is_found_within_five_windows_and_quiet_stays_quiet(seed: int):
    embeddings = Embeddings(seed)
    baseline = embeddings.rows(40 * ROWS)
    projection = Projection.of_vectors(baseline)
    whole, elements = Watch(projection.of_many(baseline)), Watch(baseline)
    assert not any(whole.alarms(projection.of_many(embeddings.rows(ROWS))) for _ in range(40))
    turned = [embeddings.rows(ROWS, turned=True) for _ in range(20)]
    assert not any(elements.alarms(rows) for rows in turned)
    assert any(whole.alarms(projection.of_many(rows)) for rows in turned[:5])
