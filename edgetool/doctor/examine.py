"""`edgetool inspect MODEL --target NAME`: which operations a device will not accelerate, and what to change."""

import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from convert.census import Census, Operation, census
from convert.ethos_u import compile_for_ethos_u, configuration_of
from edge.artifact import Artifact
from edge.bundle import MODEL_NAMES, open_bundle
from edge.delegates import DELEGATES
from edge.engines.onnx_file import compiled_for
from edge.errors import BadModel, EnvironmentFailed, ProcessCrashed, UnknownName
from edge.onnxruntime_settings import SOCS
from edge.report import Placement
from edge.runtime_process import RuntimeProcess
from edge.target import Target, target
from edgetool.candidates import FORMAT_OF_ENGINE
from edgetool.conversion_worker import ConversionWorker, describe_model, run_pass
from edgetool.doctor.advice import ON_CPU, change_for, made_for
from edgetool.doctor.checkup import Blocked, Checkup, Finding, Memory
from edgetool.doctor.table import Problem, Table
from edgetool.doctor.tables.coral import CORAL
from edgetool.doctor.tables.ethos_u import ETHOS_U55, ETHOS_U85
from edgetool.doctor.tables.hailo import HAILO
from edgetool.doctor.tables.nvidia import CUDA, TENSORRT
from edgetool.doctor.tables.qnn import QNN
from edgetool.doctor.tables.rknn import RKNN
from edgetool.passes.conversions import ConvertLiteRT, ConvertONNX
from edgetool.passes.step import KERAS
from edgetool.progress import Progress
from edgetool.units import format_bytes

TABLES: dict[str, Table] = {table.delegate: table for table in (CORAL, CUDA, ETHOS_U55, HAILO, QNN, RKNN, TENSORRT)}
# Delegates whose own record can be had on the machine that compiles, without the device
PROVABLE = frozenset(["cpu", "micro", "openvino", "qnn", "xnnpack"])
CPU = frozenset(["cpu", "xnnpack"])
LOAD_LIMIT_S = 300.0
_CONVERSIONS = {"tflite": ConvertLiteRT(), "onnx": ConvertONNX()}


def examine(path: Path, target_name: str, *, trust: bool, progress: Progress) -> Checkup:
    """What the device's delegates will make of a model or bundle; a Keras model is converted to float32 for it.

    Raises:
        BadInput: an unknown device, one that nothing runs on, or a model that cannot be read.

    """
    device = target(target_name)
    with ConversionWorker() as worker, tempfile.TemporaryDirectory(prefix="edgetool-") as scratch:
        file = _unpacked(path, Path(scratch))
        artifact, _, _ = worker.call(describe_model, file, trust, False, progress=progress.at)
        files, notes = _files(artifact, device, Path(scratch), trust, worker, progress)
        counted = {name: census(model.path, name) for name, model in files.items()}
        compiled = next((made for one in counted.values() if (made := made_for(one.operations)) is not None), None)
        if compiled is None:
            findings = tuple(_finding(name, device, files, counted, progress) for name in device.delegates)
        else:
            variant = _variant(artifact)
            findings = tuple(_of_compiled(name, device, artifact, *compiled, variant) for name in device.delegates)
        memory = _memory(device, files, counted)
    notes += () if device.note is None else (device.note,)
    words = None if compiled is None else compiled[0]
    verdict = _verdict(device, findings, memory)
    return Checkup(str(path), artifact.format, device.name, words, memory, findings, notes, verdict)


def _unpacked(path: Path, scratch: Path) -> Path:
    if path.suffix != ".edge":
        return path
    bundle = open_bundle(path)
    file = scratch / MODEL_NAMES[bundle.manifest.format]
    file.write_bytes(bundle.model)
    return file


def _files(
    artifact: Artifact, device: Target, scratch: Path, trust: bool, worker: ConversionWorker, progress: Progress
) -> tuple[dict[str, Artifact], tuple[str, ...]]:
    """The model in the formats that the device's delegates take, and what could not be made."""
    if artifact.format not in KERAS:
        return {artifact.format: artifact}, ()
    files: dict[str, Artifact] = {}
    notes = ["a Keras model runs nowhere as it is: this is about the float32 files that edgetool convert makes of it"]
    for name in dict.fromkeys(_format(delegate) for delegate in device.delegates):
        folder = scratch / name
        folder.mkdir()
        try:
            step = _CONVERSIONS[name]
            files[name] = worker.call(run_pass, step, artifact, None, folder, 0, trust, progress=progress.at).artifact
        except (BadModel, ProcessCrashed) as error:
            notes.append(f"there is no .{name} of it: {error.message}")
    return files, tuple(notes)


def _format(delegate: str) -> str:
    return DELEGATES[delegate].format if delegate in DELEGATES else TABLES[delegate].format


def _finding(
    name: str, device: Target, files: Mapping[str, Artifact], counted: Mapping[str, Census], progress: Progress
) -> Finding:
    wanted = _format(name)
    if wanted not in files:
        have = " and ".join(f".{one}" for one in files) or "a Keras model that does not convert"
        remedy = f"edgetool convert --to {wanted}, from the model that this one came from"
        return _unknown(name, wanted, f"takes .{wanted}, and this is {have} ({remedy})")
    table = ETHOS_U85 if name == "ethos-u" and (device.compiler or "").startswith("ethos-u85") else TABLES.get(name)
    try:
        if name == "ethos-u":
            progress.at(0.5, "compiling it with Vela")
            return _compiled_by_vela(device, table, files[wanted], counted[wanted])
        if name in PROVABLE:
            progress.at(0.5, f"loading it on {name}")
            return _proven(name, table, files[wanted], counted[wanted])
        failed = None
    except (EnvironmentFailed, UnknownName) as error:
        failed = f"not tried here: {error.message}"
    except BadModel as error:
        failed = f"trying it here failed: {error.message}"
    if table is None:
        return _unknown(name, wanted, failed or f"nothing here knows what {name} takes")
    found = by_table(table, counted[wanted].operations)
    return replace(found, tried=failed)


def _unknown(name: str, wanted: str, reason: str) -> Finding:
    return Finding(name, wanted, "unknown", "", 0, 0, None, reason=reason)


def _proven(name: str, table: Table | None, artifact: Artifact, found: Census) -> Finding:
    """From the record of the runtime, which loads the model in a process of its own."""
    with RuntimeProcess() as process:
        loaded = process.load(artifact.path, artifact.format, delegate=name, limit_s=LOAD_LIMIT_S)
    at = loaded.placement
    by = "" if at.emulated_by is None else f", emulated by {at.emulated_by}"
    source = f"the record of {loaded.engine} on {platform.machine()}{by}"
    return by_placement(at, artifact.format, source, found.operations, table)


def _compiled_by_vela(device: Target, table: Table | None, artifact: Artifact, found: Census) -> Finding:
    """From what Vela put on the NPU and what it left to the CPU."""
    _, made = compile_for_ethos_u(artifact.path, device.compiler or "ethos-u55-128")
    at = Placement("ethos-u", "ethos-u", made.ops_offloaded, made.ops_total, made.fallback_ops)
    source = (
        f"{made.compiler} for {made.accelerator}; estimated {made.time_ms:.3g} ms on the NPU "
        f"and {format_bytes(made.sram_bytes)} of SRAM"
    )
    return by_placement(at, artifact.format, source, found.operations, table)


def by_placement(
    placement: Placement, model_format: str, source: str, operations: Sequence[Operation], table: Table | None
) -> Finding:
    """What the runtime's own record says, with what the table knows of the reason.

    The MACs of a kind are known to be left where all of its operations fell back.
    """
    fallen = Counter((one.op, one.reason) for one in placement.fallback_ops)
    blocked = []
    for (op, reason), count in fallen.items():
        same = [operation for operation in operations if operation.kind == op]
        seen = None if table is None else next((p for one in same if (p := _seen(table, one)) is not None), None)
        share = _fraction(_macs(same), _macs(operations)) if count == len(same) else None
        change = change_for(op, on_cpu=placement.requested in CPU) if seen is None else seen.change
        why = reason if seen is None or seen.reason in reason else f"{reason}: {seen.reason}"
        blocked.append(Blocked(op, count, share, why, change))
    return Finding(
        placement.requested, model_format,
        "proven here" if placement.emulated_by is None else "proven here, emulated",
        source, placement.ops_total, placement.ops_offloaded, _left(blocked), tuple(blocked),
    )  # fmt: skip


def by_table(table: Table, operations: Sequence[Operation]) -> Finding:
    """What the delegate's public table says of every operation, and the file of the table's constraints."""
    problems: list[Problem | None] = []
    for operation in operations:
        behind = table.once and any(problem is not None for problem in problems)
        own = _problem(table, operation)
        problems.append(_BEHIND if own is None and behind else own)
    rows: dict[tuple[str, Problem], list[Operation]] = {}
    for operation, problem in zip(operations, problems, strict=True):
        if problem is not None:
            rows.setdefault((operation.kind, problem), []).append(operation)
    whole = _macs(operations)
    blocked = tuple(
        Blocked(kind, len(ops), _fraction(_macs(ops), whole), problem.reason, problem.change)
        for (kind, problem), ops in rows.items()
    )
    taken = [operation.kind for operation, problem in zip(operations, problems, strict=True) if problem is None]
    conditions = tuple(
        f"{kind} {table.operations[kind]}" for kind in dict.fromkeys(taken) if table.operations.get(kind)
    )
    if table.compiler is not None and taken:
        conditions = (*conditions, f"{table.compiler} agrees: it has the last word")
    return Finding(
        table.delegate, table.format, "by table", table.source,
        len(operations), len(taken), _left(blocked), blocked, conditions,
    )  # fmt: skip


_BEHIND = Problem(
    "stands behind an operation that is refused: the compiler makes one piece, from the start",
    "change the first refused operation, or move it to the end",
)


def _problem(table: Table, operation: Operation) -> Problem | None:
    if operation.kind not in table.operations:
        return Problem("is not in the table", change_for(operation.kind))
    return _seen(table, operation)


def _seen(table: Table, operation: Operation) -> Problem | None:
    """What one of the table's checks sees in the file."""
    return next((found for check in table.checks if (found := check(operation)) is not None), None)


def _macs(operations: Sequence[Operation]) -> int | None:
    counts = [operation.macs for operation in operations]
    return None if None in counts else sum(count for count in counts if count is not None)


def _fraction(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else part / whole


def _left(blocked: Sequence[Blocked]) -> float | None:
    """The fraction of the MACs that is accelerated."""
    shares = [row.macs_share for row in blocked]
    return None if None in shares else 1.0 - sum(share for share in shares if share is not None)


def _variant(artifact: Artifact) -> str | None:
    """The compiler's name of the very chip that a compiled file is for; None where the file does not tell."""
    if artifact.format == "tflite":
        return configuration_of(artifact.path)
    found = compiled_for(artifact.path.read_bytes())
    return None if found is None else next((name for name, number in SOCS.items() if number == found.soc), None)


def _of_compiled(
    name: str, device: Target, artifact: Artifact, words: str, delegate: str, variant: str | None
) -> Finding:
    """A compiled file runs on what it was compiled for, and nowhere else."""
    if name != delegate:
        return _unknown(name, artifact.format, f"this file is made for {words}")
    if device.compiler is not None and variant is not None and variant != device.compiler:
        return _unknown(name, artifact.format, f"this file is compiled for {variant}, and this is {device.compiler}")
    sure = () if variant == device.compiler and variant is not None else ("it was compiled for this very chip",)
    source = "the file: a compiler made it for this"
    return Finding(name, artifact.format, "by table", source, 1, 1, 1.0, conditions=sure)


def _memory(device: Target, files: Mapping[str, Artifact], counted: Mapping[str, Census]) -> Memory | None:
    """Of the file that the device's preferred engine takes, else of the one that there is."""
    wanted = [FORMAT_OF_ENGINE[engine] for engine in device.engines]
    name = next((one for one in (*wanted, *files) if one in files), None)
    if name is None:
        return None
    return Memory(files[name].size_bytes, counted[name].activation_bytes, device.memory_bytes)


def _verdict(device: Target, findings: Sequence[Finding], memory: Memory | None) -> str:
    """One line: the device's first delegate decides, since it is why one takes the device."""
    if memory is not None and memory.fits is False:
        return f"{device.name}: the model does not fit in its memory"
    known = [finding for finding in findings if finding.reason is None]
    if not known:
        return f"{device.name}: nothing there runs this file"
    first = known[0]
    skipped = findings[: findings.index(first)]
    lost = f"not on {', '.join(one.delegate for one in skipped)}; " if skipped else ""
    if not first.blocked:
        sure = "" if first.evidence != "by table" else ", by its table; " + (first.tried or "not tried here")
        return f"{device.name}: {lost}everything runs on {first.delegate}{sure}"
    left = first.ops_total - first.ops_accelerated
    where = "on LiteRT's built-in kernels" if first.delegate in CPU else "on the CPU"
    stays = f"{device.name}: {lost}{left} of {first.ops_total} operations run {where}, not on {first.delegate}"
    changes = [row for row in first.blocked if row.change != ON_CPU]
    if not changes:
        return f"{stays}: change {ON_CPU}"
    worst = max(changes, key=lambda row: (row.macs_share or 0.0, row.count))
    return f"{stays}; first change: {worst.operation} ({worst.reason}) -> {worst.change}"
