"""Every delegate that works on this machine on three trained models, float32 and int8, held against the CPU.

python -m benchmarks.delegates [--require NAME,NAME,…]

First each delegate of the table is proven or its reason is given. Then those that work run every model of their
format on real inputs, in a process of their own: where the operations ran, how far the outputs are from the CPU's on
the same file, the range of those outputs, and how often the same class wins. The CPU computes an .onnx operation by
operation as it is written: the integer kernels that ONNX Runtime puts in the place of several saturate on an x86
processor without VNNI. Exit 1 where a delegate that works is outside its tolerance, where one of those required does
not work, or where a model could not be made.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, write
from benchmarks.trained_models import Trained, prepare
from edge.bench_report import Difference
from edge.delegates import DEFAULTS, DELEGATES, Delegate
from edge.errors import EdgetoolError
from edge.probe import NO_INT8, int8_instructions
from edge.proof import Proof, prove_all
from edge.report import Placement
from edge.runtime_process import RuntimeProcess
from edge.tensors import Array
from edgetool.bench.difference import difference
from edgetool.bench.subjects import Subject, subjects

PRECISIONS = ("float32", "int8")
# Emulations on the CPU whose own int8 kernels saturate there too: 31 steps off without VNNI, at most 1 with it
SATURATING = frozenset({"litert-npu"})
LIMIT_S = 240.0  # a software GPU compiles the shaders of a model for up to 40 s the first time


@dataclass(frozen=True)
class Row:
    """One model on one delegate, or the error that came instead."""

    delegate: Delegate
    model: str
    precision: str
    placement: Placement | None
    difference: Difference | None
    seconds: float
    error: str | None = None

    @property
    def name(self) -> str:
        """The name of the row's figures."""
        return f"{self.delegate.name}.{self.model}.{self.precision}"

    @property
    def unjudged(self) -> bool:
        """Whether this processor's emulation of the delegate cannot be held to its tolerance."""
        saturates = self.delegate.name in SATURATING and int8_instructions() == NO_INT8
        return saturates and self.precision == "int8" and self.difference is not None

    @property
    def passed(self) -> bool:
        """Whether it ran within the delegate's tolerance, where that can be asked."""
        return self.unjudged or (self.difference is not None and self.difference.within)

    def line(self) -> str:
        """One line of the table."""
        head = f"{self.delegate.name:<12}{self.model:<16}{self.precision:<9}"
        if self.difference is None or self.placement is None:
            return f"{head}FAILED  {self.error}"
        found, at = self.difference, self.placement
        away = f"{found.max_lsb:.3g} LSB" if found.max_lsb is not None else f"{found.relative:.2g} of range"
        same = "-" if found.argmax_agreement is None else f"{found.argmax_agreement:.3f}"
        fallback = Counter(one.op for one in at.fallback_ops)
        left = "".join(f", {count} {op} not" for op, count in fallback.items())
        verdict = "ok" if found.within else f"FAILED: {found.allowed} allowed"
        if self.unjudged:
            verdict = f"not judged: {NO_INT8}"
        return (
            f"{head}{at.ops_offloaded:>4} of {at.ops_total:<4}{away:<18}range {found.output_range:<9.3g}"
            f"argmax {same:<7}{self.seconds:5.1f} s  {verdict}{left}"
        )


def compare(subject: Subject, expected: dict[str, Array], delegate: Delegate, trained: Trained, precision: str) -> Row:
    """Load and run one file on the delegate, in a process of its own."""
    start = time.perf_counter()
    try:
        with RuntimeProcess() as process:
            loaded = process.load(subject.path, delegate.format, delegate=delegate.name, limit_s=LIMIT_S)
            outputs = process.predict(dict(subject.examples), limit_s=LIMIT_S)
    except EdgetoolError as error:
        return Row(
            delegate, trained.name, precision, None, None, time.perf_counter() - start, f"{error} ({error.hint})"
        )
    found = difference(
        expected,
        outputs,
        loaded.outputs,
        delegate,
        told=subject.told,
        inner_steps=subject.steps_of_outputs,
        name=DEFAULTS[delegate.format],
    )
    return Row(delegate, trained.name, precision, loaded.placement, found, time.perf_counter() - start)


def outputs_as_written(path: Path, model_format: str, examples: dict[str, Array]) -> dict[str, Array]:
    """What the CPU answers: name -> [n, ...], an .onnx without the runtime's rewriting."""
    if model_format == "tflite":
        with RuntimeProcess() as process:
            process.load(path, model_format)
            return process.predict(examples)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    n = len(next(iter(examples.values())))
    answers = [session.run(names, {name: values[i : i + 1] for name, values in examples.items()}) for i in range(n)]
    return {name: np.concatenate([one[k] for one in answers]) for k, name in enumerate(names)}


def judged(models: Sequence[Trained], proofs: Sequence[Proof]) -> list[Row]:
    """Every model on every delegate of its format that was proven, but on the CPU that it is held against."""
    working = [
        DELEGATES[proof.name]
        for proof in proofs
        if proof.status in ("native", "emulated") and DELEGATES[proof.name].runs
    ]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for trained in models:
            for precision in PRECISIONS:
                for model_format in ("tflite", "onnx"):
                    (subject,) = subjects((trained.file(model_format, precision),), None, 0, Path(scratch))
                    name = subject.model.inputs[0].name
                    told = f"{len(trained.inputs)} real inputs"
                    subject = replace(subject, examples={name: np.asarray(trained.inputs)}, told=told)
                    expected = outputs_as_written(subject.path, model_format, dict(subject.examples))
                    for delegate in working:
                        if delegate.format == model_format and delegate.name != DEFAULTS[model_format]:
                            rows.append(compare(subject, expected, delegate, trained, precision))
                            print(rows[-1].line(), flush=True)
    return rows


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """The difference of every row against its tolerance, the range of the outputs, and the agreement of classes."""
    figures = []
    for row in rows:
        found = row.difference
        if found is None:
            figures.append(Figure(f"{row.name}.difference", "runs", None, "", None, met=False))
            continue
        steps = found.max_lsb is not None
        value, unit = (found.max_lsb, "LSB") if steps else (found.relative, "of the range")
        allowed = row.delegate.tolerance_lsb if steps else row.delegate.tolerance
        goal = "reported" if row.unjudged else f"<= {allowed:g}"
        figures.append(Figure(f"{row.name}.difference", goal, value, unit, None, met=row.passed))
        figures.append(Figure(f"{row.name}.output_range", "reported", found.output_range, "", None, met=True))
        if found.argmax_agreement is not None:
            agreement = Figure(f"{row.name}.argmax_agreement", "reported", found.argmax_agreement, "", None, met=True)
            figures.append(agreement)
        if row.placement is not None:
            share = row.placement.ops_offloaded / row.placement.ops_total
            figures.append(Figure(f"{row.name}.ops_on_the_delegate", "reported", share, "", None, met=True))
    return figures


def main(arguments: Sequence[str]) -> int:
    """Prove, run, print both tables, write benchmarks/results/delegates.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delegates", description="Delegates against the CPU.")
    parser.add_argument("--require", default="", metavar="NAME,…", help="delegates that have to work")
    required = [name for name in parser.parse_args(arguments).require.split(",") if name]
    models, missing = prepare()
    for sentence in missing:
        print(f"not measured: {sentence}")
    proofs = prove_all(done=lambda proof: print(f"proving {proof.name}: {proof.status}", file=sys.stderr))
    for proof in proofs:
        print(f"{proof.name:<14}{proof.status:<13}{proof.engine}")
        for said in (proof.proof, proof.reason):
            if said:
                print(f"{'':<14}{said}")
    rows = judged(models, proofs)
    write("delegates", "python -m benchmarks.delegates", figures_of(rows))
    unproven = [proof for proof in proofs if proof.name in required and proof.status == "unavailable"]
    unknown = sorted(set(required) - {proof.name for proof in proofs})
    failed = [row for row in rows if not row.passed]
    for proof in unproven:
        print(f"FAILED: {proof.name} has to work here, but: {proof.reason}")
    for name in unknown:
        print(f"FAILED: there is no delegate {name}")
    print(f"{len(rows) - len(failed)} of {len(rows)} rows within their tolerance, {len(models)} models")
    return 1 if failed or unproven or unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
