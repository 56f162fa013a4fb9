"""The reference story as a user's script: a model is deployed, watched, and noticed when the lens loses focus.

It talks to the hub that `Client()` finds and writes `scores.csv` and `scores.svg` into the working directory.
"""

import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from driftline import Client, DeploymentConfigBuilder
from driftline.framework import Framework

HERE = Path(__file__).parent
HEIGHT, WIDTH = 36, 48
WINDOW = timedelta(minutes=3)
HEALTHY_WINDOWS, BLURRED_WINDOWS = 4, 2


def picture(product: int) -> np.ndarray:
    """A grey shelf with one product more than the number says, each of its own brightness."""
    shelf = np.full((HEIGHT, WIDTH), 0.2, np.float32)
    for place in range(product + 1):
        left = 4 + 16 * place
        shelf[6:30, left : left + 6] = 0.5 + 0.15 * place
    return shelf


def out_of_focus(sharp: np.ndarray, radius: int = 1) -> np.ndarray:
    """Each pixel becomes the mean of its neighbours in the row, as through a lens that has lost its focus."""
    padded = np.pad(sharp, ((0, 0), (radius, radius)), mode="edge")
    return np.mean([padded[:, at : at + WIDTH] for at in range(2 * radius + 1)], axis=0, dtype=np.float32)


def rows(pictures: list[np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({"tensor": [one.reshape(-1) for one in pictures]})


wl = Client()
workspace = wl.get_or_create_workspace("retail-edge")
assert wl.set_current_workspace(workspace) == workspace

model = wl.upload_model(
    "shelf-detector",
    HERE / "model",
    framework=Framework.CUSTOM,
    input_schema=pa.schema([pa.field("tensor", pa.list_(pa.float32(), HEIGHT * WIDTH))]),
    output_schema=pa.schema(
        [
            pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            pa.field("classes", pa.list_(pa.int64())),
            pa.field("confidences", pa.list_(pa.float32())),
            pa.field("avg_px_intensity", pa.list_(pa.float32())),
            pa.field("avg_confidence", pa.list_(pa.float32())),
        ]
    ),
)

deployment_config = (
    DeploymentConfigBuilder()
    .replica_count(1)
    .cpus(1)
    .memory("2Gi")
    .sidekick_cpus(model, 1)
    .sidekick_memory(model, "6Gi")
    .build()
)
wl.build_pipeline("shelf-watch").add_model_step(model).deploy(deployment_config=deployment_config)
pipeline = wl.list_pipelines()[0]
print(pipeline.status())

# Three products pass by again and again; in the last two windows the lens is out of focus.
sharp = [picture(product) for product in range(3)]
blurred = [out_of_focus(one) for one in sharp]
began = now = pipeline.infer(rows(sharp))["time"].min()
while now < began + (HEALTHY_WINDOWS + BLURRED_WINDOWS) * WINDOW:
    in_focus = now < began + HEALTHY_WINDOWS * WINDOW
    now = pipeline.infer(rows(sharp if in_focus else blurred))["time"].max()
    time.sleep(0.05)

assay_builder = wl.build_assay(
    "shelf confidence",
    pipeline,
    "shelf-detector",
    iopath="output avg_confidence 0",
    baseline_data=str(HERE / "baseline.csv"),
)
assay_builder.add_run_until(now)
assay_builder.window_builder().add_width(minutes=3).add_interval(minutes=3)
assay_config = assay_builder.build()

assay_results = assay_config.interactive_run()
while any(one.status == "Late" for one in assay_results):
    # The device closes a window a moment after its end, and syncs.
    time.sleep(0.5)
    assay_results = assay_config.interactive_run()
print(f"Generated {len(assay_results)} analyses")
assay_results.chart_scores().save("scores.svg")
frame = assay_results.to_dataframe()
frame.to_csv("scores.csv", index=False)
print(frame.loc[:, ["start", "score", "status"]].to_string())

assay_id = assay_builder.upload()
print(f"assay {assay_id}")
deadline = time.monotonic() + 60
while len(scheduled := wl.get_assay_results(assay_id)) < len(assay_results):
    assert time.monotonic() < deadline, f"only {len(scheduled)} scheduled results after a minute"
    time.sleep(0.5)
print(f"{len(scheduled)} scheduled results: {[one.status for one in scheduled]}")
