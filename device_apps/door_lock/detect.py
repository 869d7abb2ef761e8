"""Faces in a picture: YuNet on an engine, its outputs decoded with numpy.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023. Anchor-free: each cell
of the strides 8, 16 and 32 predicts one face.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.engines import Engine, predict
from edge.errors import BadModel

Picture = npt.NDArray[np.uint8]

STRIDES = (8, 16, 32)
OUTPUTS = tuple(f"{part}_{stride}" for stride in STRIDES for part in ("cls", "obj", "bbox", "kps"))
CANDIDATES = 200  # the best cells that overlap is looked for among; a doorway holds fewer faces


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the picture.

    `box` is left, top, width, height; `landmarks` [5, 2] (x, y) of the eye, eye, nose tip, mouth corner, mouth corner,
    from the left of the picture to its right; `score` is 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: npt.NDArray[np.float32]
    score: float


class FaceDetector:
    """YuNet: BGR pictures of any size to faces, best first.

    A model of a fixed input size gets the picture scaled to fit; for one of a dynamic size the longer side becomes
    `side` pixels. Faces whose boxes overlap a better one by more than `overlap` (intersection over union) are dropped.

    Raises:
        BadModel: the model has not YuNet's inputs and outputs.

    """

    def __init__(self, engine: Engine, *, min_score: float = 0.7, overlap: float = 0.3, side: int = 320) -> None:
        names = {spec.name for spec in engine.outputs}
        missing = [name for name in OUTPUTS if name not in names]
        shape = engine.inputs[0].shape
        if missing or len(engine.inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise BadModel(
                f"no YuNet detector: input {shape}, outputs lack {', '.join(missing) or 'nothing'}",
                "a detector takes [1, 3, height, width] and gives cls, obj, bbox and kps of strides 8, 16 and 32",
            )
        self._engine = engine
        self._input = engine.inputs[0].name
        self._min_score, self._overlap, self._side = min_score, overlap, side
        height, width = shape[2], shape[3]
        self._fixed = (height, width) if height is not None and width is not None else None
        self._canvas = np.zeros((1, 3, 0, 0), np.float32)
        self._filled = (0, 0)

    def __call__(self, picture: Picture) -> tuple[Face, ...]:
        """[H, W, 3] BGR to the faces in it, best first."""
        canvas, ratio = self._prepare(picture)
        outputs = predict(self._engine, {self._input: canvas})
        return decode(
            outputs,
            (canvas.shape[2], canvas.shape[3]),
            ratio,
            min_score=self._min_score,
            overlap=self._overlap,
        )

    def _prepare(self, picture: Picture) -> tuple[npt.NDArray[np.float32], float]:
        """The picture in the top left corner of the input, and the ratio that it was scaled by."""
        height, width = picture.shape[:2]
        if self._fixed is not None:
            rows, columns = self._fixed
            ratio = min(rows / height, columns / width)
        else:
            ratio = self._side / max(height, width)
        scaled_h, scaled_w = max(1, round(height * ratio)), max(1, round(width * ratio))
        if self._fixed is None:
            rows, columns = -(-scaled_h // 32) * 32, -(-scaled_w // 32) * 32
        scaled = cv2.resize(
            picture, (scaled_w, scaled_h), interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        )
        if self._canvas.shape[2:] != (rows, columns) or self._filled != (scaled_h, scaled_w):
            self._canvas = np.zeros((1, 3, rows, columns), np.float32)
            self._filled = (scaled_h, scaled_w)
        for plane, values in zip(self._canvas[0], cv2.split(scaled), strict=True):  # faster than one transposed copy
            plane[:scaled_h, :scaled_w] = values
        return self._canvas, ratio


def decode(
    outputs: Mapping[str, npt.NDArray[Any]],
    size: tuple[int, int],
    ratio: float,
    *,
    min_score: float,
    overlap: float,
) -> tuple[Face, ...]:
    """YuNet's outputs for an input of `size` (height, width) to faces in a picture that was scaled by `ratio`.

    The score is sqrt(cls * obj); with the cell's column c, row r and stride s the centre is s (c + dx), s (r + dy),
    the width s exp(dw), the height s exp(dh), a landmark s (c + kx), s (r + ky).
    """
    scores, boxes, points = [], [], []
    for stride in STRIDES:
        cls, obj = outputs[f"cls_{stride}"].reshape(-1), outputs[f"obj_{stride}"].reshape(-1)
        likely = np.flatnonzero(np.minimum(cls, obj) >= min_score * min_score)  # neither is above 1; NaN is never kept
        score = np.sqrt(np.clip(cls[likely], 0, 1) * np.clip(obj[likely], 0, 1))
        kept, score = likely[score >= min_score], score[score >= min_score]
        if not len(kept):
            continue
        columns = size[1] // stride
        cell = np.stack([kept % columns, kept // columns], axis=1).astype(np.float32)
        box = outputs[f"bbox_{stride}"].reshape(-1, 4)[kept]
        # a damaged model must not overflow: no face is e^6 cells wide
        extent = np.exp(np.minimum(box[:, 2:], 6)) * stride
        corner = (cell + box[:, :2]) * stride - extent / 2
        marks = outputs[f"kps_{stride}"].reshape(-1, 5, 2)[kept]
        scores.append(score)
        boxes.append(np.concatenate([corner, extent], axis=1))
        points.append((cell[:, None, :] + marks) * stride)
    if not scores:
        return ()
    every_score, every_box = np.concatenate(scores), np.concatenate(boxes) / ratio
    every_point = np.concatenate(points) / ratio
    finite = np.isfinite(np.concatenate([every_box, every_point.reshape(-1, 10)], axis=1)).all(axis=1)
    order = np.argsort(-every_score, kind="stable")
    order = order[np.asarray(finite)[order]][:CANDIDATES]
    chosen = suppress(every_box[order], overlap)
    return tuple(
        Face(
            (float(every_box[i, 0]), float(every_box[i, 1]), float(every_box[i, 2]), float(every_box[i, 3])),
            np.asarray(every_point[i], np.float32),
            float(every_score[i]),
        )
        for i in order[chosen]
    )


def suppress(boxes: npt.NDArray[Any], overlap: float) -> list[int]:
    """Greedy non-maximum suppression: the indices of boxes [n, 4] (left, top, width, height), best first, to keep."""
    left, top = boxes[:, 0], boxes[:, 1]
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    area = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    waiting = np.arange(len(boxes))
    while len(waiting):
        best, rest = int(waiting[0]), waiting[1:]
        kept.append(best)
        across = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        down = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.clip(across, 0, None) * np.clip(down, 0, None)
        union = area[best] + area[rest] - shared
        waiting = rest[shared <= overlap * union]
    return kept
