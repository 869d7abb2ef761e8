"""Small reports with known content, for tests of choosing and rendering."""

import dataclasses

from edge.report import (
    Accuracy,
    Candidate,
    Drop,
    DropVerdict,
    Environment,
    Limits,
    Measurement,
    Parity,
    Placement,
    Report,
    SpeedVerdict,
    TaskInfo,
    Verdict,
)


def measurement(
    p50_ms: float, ratio: float | None, verdict: SpeedVerdict | None, *, engine: str = "litert", threads: int = 1
) -> Measurement:
    return Measurement(
        engine=engine,
        delegate="cpu",
        threads=threads,
        status="measured",
        load_ms=1.0,
        first_ms=2.0,
        n=100,
        p50_ms=p50_ms,
        p90_ms=p50_ms * 1.1,
        p95_ms=p50_ms * 1.2,
        p95_upper_ms=p50_ms * 1.3,
        p99_ms=p50_ms * 1.5,
        ratio=ratio,
        ratio_ci95=None if ratio is None else (ratio * 0.98, ratio * 1.02),
        verdict=verdict,
        placement=Placement("cpu", "xnnpack", 5, 5),
        peak_rss_bytes=40_000_000,
    )


def drop(value: float, upper95: float, verdict: DropVerdict, *, n: int = 6000) -> Drop:
    return Drop(value, "points", upper95, (2 * value - upper95, upper95), "paired", n, verdict, 9000)


def candidate(
    name: str,
    ratio: float | None = 0.5,
    verdict: SpeedVerdict | None = "faster",
    gzip_bytes: int = 50_000,
    lost: Drop | None = None,
    file_format: str = "tflite",
    size_bytes: int = 100_000,
) -> Candidate:
    engine = "litert" if file_format == "tflite" else "onnxruntime"
    speed = measurement(0.1 * (ratio or 1.0), ratio, verdict, engine=engine)
    accuracy = Accuracy("accuracy", 0.92, 6000, "val", (0.91, 0.93))
    return Candidate(
        id=name,
        steps=("quantize.int8",),
        format=file_format,
        file="model." + file_format,
        sha256="0" * 64,
        size_bytes=size_bytes,
        gzip_bytes=gzip_bytes,
        params=1000,
        accuracy=accuracy,
        drop=lost,
        val_accuracy=accuracy,
        val_drop=lost,
        measurements=(speed,),
        parity=Parity("keras", 0.01, None, 40.0, 1.0, None, 32),
    )


def report(*rows: Candidate, chosen: str | None = None, limits: Limits | None = None) -> Report:
    baseline = dataclasses.replace(
        candidate("tflite-float32", None, None, size_bytes=400_000), drop=None, val_drop=None
    )
    return Report(
        edgetool="0.1.0",
        environment=Environment("a cpu", 2, 0.1, None, "Linux", "3.11", {"numpy": "2"}),
        task=TaskInfo("clothes <b>", "accuracy", "higher", 54_000, 6_000, 10_000, "1" * 64),
        limits=limits or Limits(max_drop=1.0),
        target="generic-x86_64",
        seed=0,
        baseline=baseline,
        candidates=tuple(
            dataclasses.replace(row, verdict=Verdict(ship=True)) if row.id == chosen else row for row in rows
        ),
        chosen=chosen,
    )
