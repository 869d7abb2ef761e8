"""A frame to a finding: faces, quality, liveness, whose. Each stage may end it."""

import time
from collections.abc import Mapping

from device_apps.door_lock.align import align
from device_apps.door_lock.counted import What
from device_apps.door_lock.detect import Face, FaceDetector, Picture
from device_apps.door_lock.embed import Embedder, Embedding
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.liveness import LivenessModel
from device_apps.door_lock.match import Gallery
from device_apps.door_lock.models import TimedEngine
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.quality import Quality, measure, shortcomings

MIN_SIDE = 48


class Vision:
    """The stages in a row, on engines that are open."""

    def __init__(self, engines: Mapping[str, TimedEngine], policy: Policy, gallery: Gallery | None) -> None:
        self._engines, self._policy = engines, policy
        self._detector = FaceDetector(engines["detector"], min_score=policy.matching.min_score)
        self._liveness = LivenessModel(engines["liveness"])
        self._embedder = Embedder(engines["embedder"])
        self.gallery = gallery
        self._aligned: Picture | None = None

    def __call__(self, picture: Picture, captured_s: float) -> Finding:
        """BGR [H, W, 3] and when it came to what is in it."""
        finding, _ = self.look(picture, captured_s)
        return finding

    def look(self, picture: Picture, captured_s: float) -> tuple[Finding, Embedding | None]:
        """As a call, with the embedding where there is one: for enrolment and for asking what counted."""
        watch = _Stopwatch(self._engines)
        if min(picture.shape[:2]) < MIN_SIDE:
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            return Finding(captured_s, shortcomings=(f"a picture of {size} is too small",)), None
        faces = self._detector(picture)
        watch.lap("detect", "detector")
        if len(faces) != 1:
            return Finding(captured_s, faces, stages_ms=watch.laps), None
        face = faces[0]
        try:
            aligned = align(picture, face.landmarks)
        except ValueError as error:
            return Finding(captured_s, faces, shortcomings=(str(error),), stages_ms=watch.laps), None
        self._aligned = aligned
        quality = measure(face, aligned)
        wrong = shortcomings(quality, self._policy.quality)
        watch.lap("align and quality")
        if wrong:
            return Finding(captured_s, faces, quality, wrong, stages_ms=watch.laps), None
        return self._compare(captured_s, picture, face, aligned, quality, watch)

    def faces(self, picture: Picture) -> tuple[Face, ...]:
        """BGR [H, W, 3] to the faces in it, best first."""
        return self._detector(picture)

    def embed(self, aligned: Picture) -> Embedding:
        """An aligned face, BGR [112, 112, 3], to its embedding."""
        return self._embedder(aligned)

    def spoof_margin(self, crop: Picture) -> float:
        """A face and its surroundings to how much more it is a spoof than real: the difference of the logits."""
        real, spoof = self._liveness.logits(crop)
        return float(spoof - real)

    def seen(self, finding: Finding) -> tuple[What, Picture] | None:
        """What the last of its models saw in the frame that was looked at last; None where no model was asked."""
        if finding.live is None or self._aligned is None:
            return None
        return ("similarity", self._aligned) if finding.is_live else ("not live", self._liveness.seen)

    def close(self) -> None:
        """Free the models."""
        for engine in self._engines.values():
            engine.close()

    def _compare(
        self, captured_s: float, picture: Picture, face: Face, aligned: Picture, quality: Quality, watch: "_Stopwatch"
    ) -> tuple[Finding, Embedding | None]:
        live = self._liveness(picture, face)
        is_live = live >= self._policy.decision.min_live
        watch.lap("liveness", "liveness")
        if not is_live:
            return Finding(captured_s, (face,), quality, (), live, is_live, stages_ms=watch.laps), None
        embedding = self._embedder(aligned)
        watch.lap("embed", "embedder")
        match = self.gallery.match(embedding) if self.gallery is not None else None
        watch.lap("match")
        return Finding(captured_s, (face,), quality, (), live, is_live, match, watch.laps), embedding


class _Stopwatch:
    """The milliseconds of each stage, and of the model's run call within it."""

    def __init__(self, engines: Mapping[str, TimedEngine]) -> None:
        self._engines = engines
        for engine in engines.values():
            engine.run_ms = 0.0
        self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str, model: str | None = None) -> None:
        now = time.perf_counter()
        self.laps[stage], self._last = (now - self._last) * 1000, now
        if model is not None:
            self.laps[f"{stage}.model"] = self._engines[model].run_ms
