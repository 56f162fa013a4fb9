"""Train the demo's detector on rendered shelves and export it as one ONNX file, decode and suppression included.

The file in the package came from the command below: about 7 minutes on one core, of which 5 train. It has 144 thousand
parameters in 592 kB and takes 3 ms a frame. On ten shelves that it was not trained on it has precision 0.975 and recall
0.997 (IoU 0.5, confidence from 0.3), and a mean confidence of 0.753. On the demo's own shelves, ten healthy windows and
six out of focus (sigma 5), each scored by PSI of the average confidence against the eight windows before:

    seed   mean average confidence   PSI, healthy at most   PSI, out of focus at least
    1      0.71                      0.03                   8.9
    2      0.74                      0.03                   8.9
    3      0.75                      0.02                   8.9

It wants a virtual environment of its own, for torch is no dependency of driftline:

    python3 -m venv trainvenv
    trainvenv/bin/pip install torch==2.13.0 numpy opencv-python-headless onnx onnxruntime
    PYTHONPATH=src trainvenv/bin/python tools/train_detector.py --out src/driftline/demo/detector.onnx

The model is a small CenterNet (Zhou, Wang & Krähenbühl 2019, "Objects as Points"): a heat map a class at a quarter of
the input's size, and at each of its cells the distances to the four sides of the box. The interface is that of an
end-to-end YOLOX: `images` float32 (1, 3, 192, 256), BGR 0..255, letterboxed to the top left with 114; `boxes` float32
(n, 4) xyxy in input pixels, `classes` int64 (n,), `confidences` float32 (n,), all of at least `SCORE_MIN`.

Seeds 1 to 20 belong to the demo; training begins at 1000 and validation at 900.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftline.demo.scene import CLASSES, Shelf

Image: TypeAlias = NDArray[np.uint8]
Boxes: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]

INPUT_H, INPUT_W, STRIDE, PAD = 192, 256, 4, 114
GRID_H, GRID_W = INPUT_H // STRIDE, INPUT_W // STRIDE
SCORE_MIN, BOXES_MAX = 0.3, 100
PERSON = CLASSES.index("person")
TRAIN_SEED, VALIDATION_SEED = 1000, 900
BATCH = 16


@dataclass(frozen=True, slots=True)
class Example:
    """A frame as the network sees it, and what is in it."""

    image: Image  # (INPUT_H, INPUT_W, 3) BGR
    boxes: Boxes  # (n, 4) xyxy in input pixels
    classes: Labels  # (n,)


# ------------------------------------------------------------------------------------------------------------- examples


def letterboxed(frame: Image) -> tuple[Image, float]:
    """Fit the frame into the upper left corner of the input; also say by which factor it was scaled."""
    scale = min(INPUT_H / frame.shape[0], INPUT_W / frame.shape[1])
    size = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    image = np.full((INPUT_H, INPUT_W, 3), PAD, np.uint8)
    image[: small.shape[0], : small.shape[1]] = small
    return image, scale


def examples(seeds: range, frames: int) -> list[Example]:
    """Photograph each shelf at `frames` moments spread over a pass."""
    found: list[Example] = []
    for seed in seeds:
        shelf = Shelf(seed)
        for index in np.linspace(0, shelf.frames, frames, endpoint=False).astype(int):
            image, scale = letterboxed(shelf.frame(int(index)))
            boxes, classes = shelf.boxes(int(index))
            found.append(Example(image, boxes * np.float32(scale), classes))
    return found


def varied(rng: np.random.Generator, example: Example) -> Example:
    """Another view of the same example: mirrored, moved, zoomed, under other light, slightly out of focus, noisier."""
    zoom, flip = rng.uniform(0.88, 1.15), -1.0 if rng.random() < 0.5 else 1.0
    move_x = (INPUT_W * (1 - flip * zoom)) / 2 + rng.uniform(-14, 14)
    move_y = (INPUT_H * (1 - zoom)) / 2 + rng.uniform(-10, 10)
    matrix = np.array([[flip * zoom, 0, move_x], [0, zoom, move_y]])
    image = cv2.warpAffine(example.image, matrix, (INPUT_W, INPUT_H), borderValue=(PAD, PAD, PAD)).astype(np.float32)
    image = image * rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3) + rng.uniform(-12, 12)
    # A little blur only: the detector shall grow unsure when the lens goes out of focus, as real ones do.
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 0.7))
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 4))
    boxes = example.boxes.copy()
    boxes[:, 0::2] = np.sort(boxes[:, 0::2] * flip * zoom + move_x, axis=1)
    boxes[:, 1::2] = boxes[:, 1::2] * zoom + move_y
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    boxes = np.clip(boxes, 0, [INPUT_W, INPUT_H, INPUT_W, INPUT_H]).astype(np.float32)
    kept = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) >= 0.4 * area
    return Example(np.clip(image, 0, 255).astype(np.uint8), boxes[kept], example.classes[kept])


@dataclass(frozen=True, slots=True)
class Target:
    """What the network ought to answer."""

    heat: Tensor  # (classes, GRID_H, GRID_W), 1 at centres, falling off around them
    weight: Tensor  # (GRID_H, GRID_W), how much a cell's box counts
    boxes: Tensor  # (4, GRID_H, GRID_W), the box that a cell belongs to


def target(example: Example) -> Target:
    """Draw a Gaussian a box, as wide as the box is, on the map of its class; the smaller box wins a contested cell."""
    heat = np.zeros((len(CLASSES), GRID_H, GRID_W), np.float32)
    weight = np.zeros((GRID_H, GRID_W), np.float32)
    boxes = np.zeros((4, GRID_H, GRID_W), np.float32)
    sizes = example.boxes[:, 2:] - example.boxes[:, :2]
    for place in np.argsort(-sizes.prod(1)):
        box, size = example.boxes[place], sizes[place] / STRIDE
        middle = np.floor((box[:2] + box[2:]) / 2 / STRIDE)
        across = np.exp(-0.5 * ((np.arange(GRID_W) - middle[0]) / max(0.09 * size[0], 0.45)) ** 2)
        down = np.exp(-0.5 * ((np.arange(GRID_H) - middle[1]) / max(0.09 * size[1], 0.45)) ** 2)
        spot = (down[:, None] * across[None, :]).astype(np.float32)
        heat[example.classes[place]] = np.maximum(heat[example.classes[place]], spot)
        near = (spot > 0.4) & (spot >= weight)
        weight[near], boxes[:, near] = spot[near], box[:, None]
    return Target(torch.from_numpy(heat), torch.from_numpy(weight), torch.from_numpy(boxes))


# ---------------------------------------------------------------------------------------------------------------- model


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Network(nn.Module):
    """Down to a thirty-second, up to a quarter again; heat and sides at every cell."""

    def __init__(self) -> None:
        super().__init__()
        self.down4 = nn.Sequential(conv(3, 16, 2), conv(16, 24, 2), conv(24, 24))
        self.down8 = nn.Sequential(conv(24, 32, 2), conv(32, 32))
        self.down16 = nn.Sequential(conv(32, 48, 2), conv(48, 48))
        self.down32 = nn.Sequential(conv(48, 48, 2), conv(48, 48))
        self.across32, self.across16, self.across8 = nn.Conv2d(48, 48, 1), nn.Conv2d(48, 32, 1), nn.Conv2d(32, 24, 1)
        self.merge16, self.merge8 = conv(48, 48), conv(32, 32)
        last = nn.Conv2d(32, len(CLASSES) + 4, 1)
        # Few cells are centres: begin by saying so (Lin et al. 2017, focal loss, prior 0.01); sides begin at 12 pixels.
        last.bias = nn.Parameter(torch.tensor([-4.6] * len(CLASSES) + [1.1] * 4))
        self.head = nn.Sequential(conv(24, 32), last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return heat before the sigmoid, (b, classes, h, w), and boxes, (b, 4, h, w), xyxy in input pixels."""
        quarter = self.down4((images - 114.0) / 58.0)
        eighth = self.down8(quarter)
        sixteenth = self.down16(eighth)
        up = self.merge16(sixteenth + doubled(self.across32(self.down32(sixteenth))))
        up = self.merge8(eighth + doubled(self.across16(up)))
        out = self.head(quarter + doubled(self.across8(up)))
        heat, sides = out[:, : len(CLASSES)], torch.exp(out[:, len(CLASSES) :].clamp(-3, 4)) * STRIDE
        x = (torch.arange(GRID_W, dtype=torch.float32) + 0.5) * STRIDE
        y = ((torch.arange(GRID_H, dtype=torch.float32) + 0.5) * STRIDE)[:, None]
        boxes = torch.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], 1)
        return heat, boxes


def doubled(small: Tensor) -> Tensor:
    """Repeat every cell twice each way."""
    return functional.interpolate(small, scale_factor=2.0, mode="nearest")


class EndToEnd(nn.Module):
    """The network with decode and suppression, for one image."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.limit = nn.Buffer(torch.tensor([INPUT_W, INPUT_H, INPUT_W, INPUT_H], dtype=torch.float32))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, classes and confidences, the surest first."""
        heat, boxes = self.network(images)
        heat = torch.sigmoid(heat)
        # A product suppresses its neighbours whatever their class; people are large, and hide behind nobody's product.
        products, people = heat[:, :PERSON], heat[:, PERSON:]
        best = functional.max_pool2d(products.amax(1, keepdim=True), 3, 1, 1)
        alone = functional.max_pool2d(people, 11, 1, 5)
        peaks = torch.cat([products * (products == best), people * (people == alone)], 1)
        scores, places = torch.topk(peaks.reshape(-1), BOXES_MAX)
        places = places[scores >= SCORE_MIN]
        cells = places % (GRID_H * GRID_W)
        found = boxes.reshape(4, -1).transpose(0, 1)[cells]
        return torch.minimum(found.clamp(min=0.0), self.limit), places // (GRID_H * GRID_W), scores[scores >= SCORE_MIN]


# ------------------------------------------------------------------------------------------------------------- training


def heat_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Focal loss with fewer penalties near a centre (Law & Deng 2018, CornerNet, equation 1)."""
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    centre = heat.ge(0.999)
    hit = torch.where(centre, (1 - p) ** 2 * torch.log(p), 0.0)
    miss = torch.where(centre, 0.0, (1 - heat) ** 4 * p**2 * torch.log(1 - p))
    return -(hit.sum() + miss.sum()) / centre.sum().clamp(min=1)


def box_loss(boxes: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """One minus the generalised intersection over union (Rezatofighi et al. 2019), weighted by cell."""
    a, b = boxes.unbind(1), wanted.unbind(1)
    wide = torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])
    high = torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])
    hull_wide = torch.maximum(a[2], b[2]) - torch.minimum(a[0], b[0])
    hull_high = torch.maximum(a[3], b[3]) - torch.minimum(a[1], b[1])
    inter = wide.clamp(min=0) * high.clamp(min=0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    hull = hull_wide * hull_high
    giou = inter / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return ((1 - giou) * weight).sum() / weight.sum().clamp(min=1)


def trained(data: list[Example], steps: int, seed: int) -> Network:
    """Train on varied examples, one cycle of the learning rate."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Network().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.15)
    begun = time.monotonic()
    for step in range(steps):
        batch = [varied(rng, data[place]) for place in rng.integers(len(data), size=BATCH)]
        targets = [target(example) for example in batch]
        images = torch.from_numpy(np.stack([e.image for e in batch]).transpose(0, 3, 1, 2)).float()
        logits, boxes = network(images)
        heat = heat_loss(logits, torch.stack([t.heat for t in targets]))
        box = box_loss(boxes, torch.stack([t.boxes for t in targets]), torch.stack([t.weight for t in targets]))
        optimizer.zero_grad()
        (heat + 2.0 * box).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        plan.step()
        if step % 50 == 0 or step == steps - 1:
            spent_s = time.monotonic() - begun
            print(f"step {step:5d}  heat {heat.item():.3f}  box {box.item():.3f}  {spent_s:.0f} s", flush=True)
    return network.eval()


def export(network: Network, out: Path) -> None:
    """Write the end-to-end model as one self-contained file."""
    torch.onnx.export(
        EndToEnd(network).eval(),
        (torch.zeros(1, 3, INPUT_H, INPUT_W),),
        str(out),
        input_names=["images"],
        output_names=["boxes", "classes", "confidences"],
        dynamic_axes={"boxes": {0: "n"}, "classes": {0: "n"}, "confidences": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )


# ----------------------------------------------------------------------------------------------------------- validation


def overlaps(boxes: Boxes, others: Boxes) -> Boxes:
    """Intersection over union of each with each, shape (n, m)."""
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(2)
    areas, other_areas = (boxes[:, 2:] - boxes[:, :2]).prod(1), (others[:, 2:] - others[:, :2]).prod(1)
    return (inter / (areas[:, None] + other_areas[None, :] - inter)).astype(np.float32)


def hits(found: Boxes, classes: Labels, example: Example) -> int:
    """Count the detections, the surest first, that meet a thing of their class at IoU 0.5 that nobody met before."""
    if not len(found) or not len(example.boxes):
        return 0
    overlap = overlaps(found, example.boxes) * (classes[:, None] == example.classes[None, :])
    met = 0
    for row in range(len(found)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= 0.5:
            overlap[:, best] = 0
            met += 1
    return met


def validate(model: Path, data: list[Example]) -> str:
    """Run the exported file itself and say how it does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
    met = found = wanted = 0
    confidences: list[float] = []
    begun = time.perf_counter()
    for example in data:
        images = example.image.transpose(2, 0, 1)[None].astype(np.float32)
        boxes, classes, scores = session.run(None, {"images": images})
        met += hits(boxes, classes, example)
        found, wanted = found + len(boxes), wanted + len(example.boxes)
        confidences += scores.tolist()
    spent_ms = (time.perf_counter() - begun) / len(data) * 1e3
    return (
        f"precision {met / max(found, 1):.3f}, recall {met / wanted:.3f}, mean confidence {np.mean(confidences):.3f}, "
        f"{wanted} things in {len(data)} frames, {spent_ms:.1f} ms a frame, {model.stat().st_size / 1000:.0f} kB"
    )


def main() -> None:
    """Render, train, export, validate."""
    parser = argparse.ArgumentParser(description="Train the demo's detector and export it as ONNX.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--shelves", type=int, default=220)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = examples(range(TRAIN_SEED, TRAIN_SEED + arguments.shelves), frames=12)
    print(f"{len(data)} training frames of {arguments.shelves} shelves", flush=True)
    export(trained(data, arguments.steps, arguments.seed), arguments.out)
    print(validate(arguments.out, examples(range(VALIDATION_SEED, VALIDATION_SEED + 10), frames=24)))


if __name__ == "__main__":
    main()
