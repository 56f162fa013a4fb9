"""driftline: recorder and batch, ten minutes at a time; a batch is compressed already."""

from collections.abc import Iterator

import numpy as np
from exchange_day import Day, answer

from driftline.clock import ManualClock
from driftline.edge.recorder import Recorder
from driftline.summary.grid import quantile_grid
from driftline.wire.device import BatchHead, Desired, DesiredPipeline, Record, encode_batch

T0_NS, MINUTE_NS = 1_767_261_600 * 10**9, 60 * 10**9
PIPELINE = "3f0d7a52-9f4e-4c59-8a14-7f1f0a2b6c3d"


def batches(day: Day) -> Iterator[bytes]:
    """Record value by value on learned grids."""
    names = [f"out.field_{i}" for i in range(day.shape[2])]
    grid = quantile_grid(np.sort(day.ravel()[:1000]).tolist(), float32=True)
    records: list[Record] = []
    recorder = Recorder(lambda kind, data, *_: records.append(Record(len(records) + 1, kind, data)), ManualClock(T0_NS))
    fields = [{"key": name, "type": "float32", "kind": "number"} for name in names]
    outputs = [{"name": name[4:], "type": "float32", "shape": []} for name in names]
    definition = {
        "version": 1, "pipeline": "till", "steps": [{"name": "model"}], "inputs": [], "outputs": outputs,
        "fields": fields,
    }  # fmt: skip
    wanted = DesiredPipeline(PIPELINE, "till", definition, grids=dict.fromkeys(names, grid.id), rows_max=0)
    recorder.configure(Desired((wanted,), {grid.id: grid.edges}), {}, T0_NS)
    for number, minute in enumerate(day):
        for at, values in enumerate(minute.tolist()):
            time_ns = T0_NS + number * MINUTE_NS + at * MINUTE_NS // len(minute)
            recorder.record(PIPELINE, time_ns, dict(zip(names, values, strict=True)))
        if number % 10 == 9:
            recorder.close(T0_NS + (number + 1) * MINUTE_NS)
            yield encode_batch(BatchHead("till-1", "6c1f0a2b7d3e4f50", backlog=0), records)
            records.clear()


answer(batches, ["driftline", "numpy"])
