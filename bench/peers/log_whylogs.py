"""whylogs: one profile of all fields a minute, serialised."""

from collections.abc import Iterator

import pandas as pd
import whylogs
from exchange_day import Day, answer


def profiles(day: Day) -> Iterator[bytes]:
    """Log each minute as a frame."""
    names = [f"field_{i}" for i in range(day.shape[2])]
    for minute in day:
        yield whylogs.log(pandas=pd.DataFrame(minute, columns=names)).view().serialize()


answer(profiles, ["whylogs", "whylogs-sketching", "numpy", "pandas"])
