"""whylogs: drift between two profiles, by the algorithm and the thresholds that it chooses itself."""

from collections.abc import Iterator

import pandas as pd
import whylogs
from exchange import Floats, answer
from whylogs.core.view.dataset_profile_view import DatasetProfileView
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores


def profile(values: Floats) -> DatasetProfileView:
    """Return the sketch of one column."""
    return whylogs.log(pandas=pd.DataFrame({"value": values})).view()


def drift(baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Fire where the category is DRIFT, not POSSIBLE_DRIFT."""
    reference = profile(baseline)
    for window in windows:
        scores = calculate_drift_scores(profile(window), reference, with_thresholds=True)
        yield scores["value"]["drift_category"] == "DRIFT"


answer({"drift": drift}, ["whylogs", "whylogs-sketching", "numpy", "pandas", "scipy"])
