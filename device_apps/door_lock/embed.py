"""An upright face to a vector; faces of one person have vectors in one direction.

Any model with this signature will do: [n, 112, 112, 3] or [n, 3, 112, 112], RGB from -1 to 1, to [n, dimensions].
Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices", CCBR 2018.
"""

import numpy as np
import numpy.typing as npt

from device_apps.door_lock.align import SIDE
from device_apps.door_lock.detect import Picture
from edge.engines import Engine, predict
from edge.errors import BadModel

Embedding = npt.NDArray[np.float32]


class Embedder:
    """Aligned faces to embeddings of length 1.

    Raises:
        BadModel: the model has another signature.

    """

    def __init__(self, engine: Engine) -> None:
        inputs, outputs = engine.inputs, engine.outputs
        shape = inputs[0].shape
        self._channels_last = shape[1:] == (SIDE, SIDE, 3)
        if len(inputs) != 1 or len(outputs) != 1 or shape[1:] not in {(SIDE, SIDE, 3), (3, SIDE, SIDE)}:
            raise BadModel(
                f"no face embedder: input {shape}, {len(outputs)} outputs",
                f"it takes [n, {SIDE}, {SIDE}, 3] or [n, 3, {SIDE}, {SIDE}] and gives [n, dimensions]",
            )
        self._engine, self._input, self._output = engine, inputs[0].name, outputs[0].name
        self._batch = shape[0] or 1

    def __call__(self, aligned: Picture) -> Embedding:
        """BGR [112, 112, 3] to [dimensions], of length 1.

        Raises:
            BadModel: the model answers zeros, NaN or infinity, which are in no direction.

        """
        values = aligned[:, :, ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
        if not self._channels_last:
            values = values.transpose(2, 0, 1)
        batch = np.repeat(values[None], self._batch, axis=0)  # a fixed batch is filled with copies
        vector = np.asarray(predict(self._engine, {self._input: batch})[self._output][0], np.float32).ravel()
        length = float(np.linalg.norm(vector))
        if not 0 < length < float("inf"):
            raise BadModel(f"the embedder answers a vector of length {length}", "is the model damaged?")
        return np.asarray(vector / np.float32(length), np.float32)
