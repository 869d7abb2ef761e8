"""Whether a face is a person or a picture of one: MiniFASNet on the face and its surroundings.

The network's lineage: Minivision, "Silent-Face-Anti-Spoofing" (2020). It looks for the texture of paper and screens
and for their edges; group photographs and good screens have fooled it, so it vetoes and never grants.
"""

import cv2
import numpy as np
import numpy.typing as npt

from device_apps.door_lock.detect import Face, Picture
from edge.engines import Engine, predict
from edge.errors import BadModel

EXPANSION = 1.5  # of the longer side of the box: what the model was trained with


class LivenessModel:
    """A face in a picture to the probability that it is live, 0 to 1.

    The model takes [1, 3, side, side] RGB 0 to 1 and gives two logits, the first of which is "real".

    Raises:
        BadModel: the model has another signature.

    """

    def __init__(self, engine: Engine) -> None:
        inputs, outputs = engine.inputs, engine.outputs
        shape = inputs[0].shape
        square = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] and shape[2] is not None
        if len(inputs) != 1 or len(outputs) != 1 or not square or outputs[0].shape[-1] != 2:
            raise BadModel(
                f"no liveness model: input {shape}, outputs {[spec.shape for spec in outputs]}",
                "it takes [1, 3, side, side] and gives [1, 2]: real, spoof",
            )
        self._engine, self._input, self._output = engine, inputs[0].name, outputs[0].name
        self._side = int(shape[2] or 0)
        self.seen = np.zeros((self._side, self._side, 3), np.uint8)

    def __call__(self, picture: Picture, face: Face) -> float:
        """BGR [H, W, 3] and a face in it to the probability that the face is live; `seen` is what was looked at."""
        self.seen = surroundings(picture, face.box, self._side)
        return probability(self.logits(self.seen))

    def logits(self, crop: Picture) -> npt.NDArray[np.float64]:
        """A face and its surroundings, BGR [side, side, 3], to [real, spoof]."""
        values = np.stack(cv2.split(crop)[::-1])[None] * np.float32(1 / 255)
        return np.asarray(predict(self._engine, {self._input: values})[self._output], np.float64).ravel()


def probability(logits: npt.NDArray[np.float64]) -> float:
    """Softmax of [real, spoof]; 0 where the model answers NaN."""
    difference = float(logits[1] - logits[0])
    return 0.0 if np.isnan(difference) else float(1 / (1 + np.exp(np.clip(difference, -700, 700))))


def surroundings(picture: Picture, box: tuple[float, float, float, float], side: int) -> Picture:
    """The square around a box, `EXPANSION` times its longer side, at [side, side, 3]; mirrored where it leaves the
    picture, since a black border is itself a sign of a frame.
    """
    left, top, width, height = box
    extent = max(width, height) * EXPANSION
    scale = side / extent
    x, y = left + width / 2 - extent / 2, top + height / 2 - extent / 2
    if scale < 1:  # reduce without aliasing, which looks like a screen's moire
        x0, y0 = max(0, int(x)), max(0, int(y))
        x1, y1 = min(picture.shape[1], int(x + extent) + 1), min(picture.shape[0], int(y + extent) + 1)
        inside = picture[y0:y1, x0:x1]
        if not inside.size:
            return np.zeros((side, side, 3), np.uint8)
        new_w, new_h = max(1, round(inside.shape[1] * scale)), max(1, round(inside.shape[0] * scale))
        while inside.shape[0] >= 2 * new_h and inside.shape[1] >= 2 * new_w:  # many times faster than the rest
            even = inside[: inside.shape[0] // 2 * 2, : inside.shape[1] // 2 * 2]
            inside = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(inside, (new_w, new_h), interpolation=cv2.INTER_AREA)
        x, y, scale = (x - x0) * scale, (y - y0) * scale, 1.0
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
    crop: Picture = cv2.warpAffine(
        picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return crop
