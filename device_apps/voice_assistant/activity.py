"""Is somebody speaking? Frames of sound to yes or no."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from device_apps.voice_assistant.slaney import log_mel, standardised
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.audio_features import FeatureStream, LogMel
from edge.engines import Engine
from edge.errors import BadModel
from edge.streaming import Stream
from edge.tensors import dequantize, quantize

Flags = npt.NDArray[np.bool_]
BANDS = LogMel(RATE_HZ, 512, 320, 16, low_hz=150, high_hz=5000, floor=1e-3)
SMOOTH = 0.5  # of two frames: the bands of noise alone scatter by half a neper
RISE, FALL = 0.01, 0.06  # nepers a frame: the floor is about the lowest seventh of what a band does
SETTLE = 10  # frames whose mean the floor starts from; speech in them is made good by the first pause
ON_EXCESS, OFF_EXCESS = 0.75, 0.45  # nepers above the floor in the mean over the bands
BRIDGE = 3  # frames: a shorter gap within speech, or a shorter burst within silence, does not count
TINY_HOP, TINY_BANDS, TINY_FRAMES, TINY_ON, TINY_OFF = 512, 32, 16, 0.0, -1.0
SILERO_SAMPLES, SILERO_CONTEXT, SILERO_ON, SILERO_OFF = 512, 64, 0.5, 0.35


class VoiceActivity(Protocol):
    """Yes or no for each `hop` samples."""

    @property
    def hop(self) -> int: ...

    def push(self, samples: Samples) -> Flags:
        """The next samples [n]; whether there is speech in each of the hops that they complete [0 or more]."""
        ...

    def reset(self) -> None:
        """Start anew, as if nothing had been heard."""
        ...

    def close(self) -> None:
        """Free the model, where there is one."""
        ...


class EnergyActivity:
    """Speech is what stands out of the noise floor of its band, with hysteresis.

    The floor of each mel band follows a low quantile of it, by steps of a fixed size (the idea of minimum statistics:
    Martin, "Noise power spectral density estimation based on optimal smoothing and minimum statistics", 2001). A
    sudden steady noise counts as speech until the floor has risen to it, and music does.
    """

    hop = BANDS.hop

    def __init__(self) -> None:
        self._frames = FeatureStream(BANDS)
        self.reset()

    def push(self, samples: Samples) -> Flags:
        flags = [self._step(frame) for frame in self._frames.push(samples)]
        return np.array(flags, bool)

    def reset(self) -> None:
        self._frames.reset()
        self._smooth: npt.NDArray[np.float32] | None = None
        self._floor = np.zeros(0, np.float32)
        self._seen = self._against = 0
        self._on = False

    def close(self) -> None:
        return

    def _step(self, frame: npt.NDArray[np.float32]) -> bool:
        if self._smooth is None:
            self._smooth, self._floor = frame, frame.copy()
        self._smooth = smooth = self._smooth + np.float32(SMOOTH) * (frame - self._smooth)
        difference = smooth - self._floor
        self._seen += 1
        if self._seen <= SETTLE:
            self._floor += difference / self._seen
        else:
            self._floor += np.clip(difference, np.float32(-FALL), np.float32(RISE))
        excess = float(np.maximum(difference, 0).mean())
        wants = excess > (OFF_EXCESS if self._on else ON_EXCESS)
        self._against = self._against + 1 if wants != self._on else 0
        if self._against >= BRIDGE:
            self._on, self._against = wants, 0
        return self._on


class TinyActivity:
    """TinyVAD: a small convolution network on the last half second, every 32 ms. As .tflite and as .onnx.

    Raises:
        BadModel: the model has another input.

    """

    hop = TINY_HOP

    def __init__(self, engine: Engine) -> None:
        if len(engine.inputs) != 1 or engine.inputs[0].shape != (1, 1, TINY_BANDS, TINY_FRAMES):
            shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in engine.inputs)
            raise BadModel(f"no TinyVAD: it takes {shapes}", f"[1, 1, {TINY_BANDS}, {TINY_FRAMES}] is expected")
        self._engine = engine
        (self._input,), self._output = engine.inputs, engine.outputs[0]
        self._kept = np.zeros(0, np.float32)
        self._frames = log_mel(np.zeros(TINY_HOP * TINY_FRAMES, np.float32), TINY_HOP, TINY_BANDS)
        self._on = False

    def push(self, samples: Samples) -> Flags:
        self._kept = np.concatenate([self._kept, samples])
        whole = len(self._kept) - len(self._kept) % TINY_HOP
        flags = []
        if whole:
            for frame in log_mel(self._kept[:whole], TINY_HOP, TINY_BANDS):
                self._frames[:-1] = self._frames[1:]
                self._frames[-1] = frame
                flags.append(self._step())
            self._kept = self._kept[whole:]
        return np.array(flags, bool)

    def reset(self) -> None:
        self._kept = np.zeros(0, np.float32)
        self._frames = log_mel(np.zeros(TINY_HOP * TINY_FRAMES, np.float32), TINY_HOP, TINY_BANDS)
        self._on = False

    def close(self) -> None:
        self._engine.close()

    def _step(self) -> bool:
        picture = standardised(self._frames).T.reshape(1, 1, TINY_BANDS, TINY_FRAMES)
        given = self._engine.run({self._input.name: quantize(picture, self._input)})
        logit = float(np.ravel(dequantize(given[self._output.name], self._output))[0])
        self._on = logit > (TINY_OFF if self._on else TINY_ON)
        return self._on


class SileroActivity:
    """Silero's model: 512 samples and the 64 before them to a probability, with an LSTM's state.

    Raises:
        BadModel: the model has other inputs or outputs.

    """

    hop = SILERO_SAMPLES

    def __init__(self, engine: Engine) -> None:
        inputs, outputs = {spec.name for spec in engine.inputs}, {spec.name for spec in engine.outputs}
        if inputs != {"input", "state", "sr"} or outputs != {"output", "stateN"}:
            raise BadModel(
                f"no voice activity model of Silero: it takes {', '.join(sorted(inputs))}", "silero_vad_16k_op15.onnx"
            )
        self._engine = engine
        self._stream = Stream(engine, {"state": "stateN"})
        self._kept = np.zeros(SILERO_CONTEXT, np.float32)
        self._on = False

    def push(self, samples: Samples) -> Flags:
        self._kept = np.concatenate([self._kept, samples])
        flags = []
        while len(self._kept) >= SILERO_CONTEXT + SILERO_SAMPLES:
            taken = self._kept[: SILERO_CONTEXT + SILERO_SAMPLES]
            given = self._stream.run({"input": taken[None], "sr": np.array(RATE_HZ, np.int64)})
            self._on = float(given["output"][0, 0]) > (SILERO_OFF if self._on else SILERO_ON)
            flags.append(self._on)
            self._kept = self._kept[SILERO_SAMPLES:]
        return np.array(flags, bool)

    def reset(self) -> None:
        self._kept = np.zeros(SILERO_CONTEXT, np.float32)
        self._on = False
        self._stream.reset()

    def close(self) -> None:
        self._engine.close()
