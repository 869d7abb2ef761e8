"""A bundle: one file, *.edge, with a model and all a device needs to run and check it.

A zip archive of `manifest.json`, the model, `golden.npz` and maybe the report, a list of parts (CycloneDX), where the
model comes from (in-toto, SLSA) and licences; behind it maybe a signature (edge/trust/envelope.py). The same content
makes the same bytes. Hashes here find damage, not forgery: that is what signatures are for. The model is packed
(edge/packing) where that makes it smaller; whoever opens a bundle gets its file as it was, bit for bit.
"""

import dataclasses
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.archive import PLAIN_NAME, pack_arrays, read_archive, unpack_arrays, write_archive, write_whole
from edge.artifact import Artifact
from edge.errors import BadInput
from edge.packing import pack, unpack
from edge.preprocess import Array, Preprocess, from_plain
from edge.report import from_plain as value_from_plain
from edge.report import to_json
from edge.tensors import TensorSpec
from edge.trust.envelope import MAX_SIGNATURE_BYTES, split

SCHEMA = "edgetool.bundle/3"
# Version 1 has no packed members, version 2 no thresholds, requirements and documents.
READABLE = ("edgetool.bundle/1", "edgetool.bundle/2", SCHEMA)
MANIFEST, GOLDEN, REPORT = "manifest.json", "golden.npz", "report.json"
SBOM, PROVENANCE, LICENCES = "sbom.cdx.json", "provenance.json", "licences.txt"
DOCUMENTS = (REPORT, SBOM, PROVENANCE, LICENCES)
MODEL_NAMES = {"tflite": "model.tflite", "onnx": "model.onnx", "fake": "model.fake"}
MODEL_SUFFIXES = frozenset({".tflite", ".onnx", ".keras", ".h5"})
# Unpacked, so that a small file cannot fill a device's memory: what such members have, and room
MAX_MODEL_BYTES = 1 << 30
MAX_BYTES = {
    MANIFEST: 4 << 20,
    GOLDEN: 256 << 20,
    **dict.fromkeys(DOCUMENTS, 64 << 20),
    **dict.fromkeys(MODEL_NAMES.values(), MAX_MODEL_BYTES),
}
MAX_BUNDLE_BYTES = MAX_MODEL_BYTES + (512 << 20)
# Packing a larger model would take minutes here and many times its memory on the device.
MAX_PACKED_MODEL_BYTES = 64 << 20
# What zipfile, zlib, json and numpy raise on damaged bytes (RuntimeError: an encrypted member)
DAMAGE = (ValueError, KeyError, EOFError, OSError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What is in a bundle.

    `preprocess` is the plain form of each input's step, `members` the sha256 of each other file, `packed` the sha256
    of the bytes that stand in the archive for a member that is packed, and `tolerance` the largest difference from
    the golden outputs, by output, that a device may show. `thresholds` are the scores from which on an output or a
    label counts, `requires` what a device's Python needs, as PEP 508 words it ("numpy>=1.24").
    """

    name: str
    target: str
    format: str
    model: str
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: dict[str, Any]
    labels: tuple[str, ...]
    steps: tuple[str, ...]
    versions: dict[str, str]
    tolerance: dict[str, float]
    members: dict[str, str]
    packed: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    schema: str = field(default=SCHEMA)

    def __post_init__(self) -> None:
        texts = (self.name, self.target, self.format, self.model, self.task, *self.labels, *self.steps, *self.requires)
        if not all(isinstance(text, str) for text in (*texts, *self.versions, *self.versions.values())):
            raise ValueError("a text is expected where something else stands")
        if not self.inputs or not self.outputs:
            raise ValueError("it names no inputs or no outputs")
        for spec in (*self.inputs, *self.outputs):
            _check_spec(spec)
        if set(self.preprocess) != {spec.name for spec in self.inputs}:
            raise ValueError(f"preprocessing for {sorted(self.preprocess)}, but inputs {[s.name for s in self.inputs]}")
        if set(self.tolerance) != {spec.name for spec in self.outputs}:
            raise ValueError(f"tolerances for {sorted(self.tolerance)}, but outputs {[s.name for s in self.outputs]}")
        if not all(0 <= value < float("inf") for value in self.tolerance.values()):
            raise ValueError("a tolerance is negative or infinite")
        if not all(abs(value) < float("inf") for value in self.thresholds.values()):
            raise ValueError("a threshold is not a number")
        self._check_members()

    def _check_members(self) -> None:
        allowed = {self.model, GOLDEN, *DOCUMENTS}
        if self.model not in MODEL_NAMES.values() or not {self.model, GOLDEN} <= set(self.members) <= allowed:
            raise ValueError(f"members {sorted(self.members)}, but the model is {self.model!r}")
        if not set(self.packed) <= {self.model}:
            raise ValueError(f"packed members {sorted(self.packed)}; only the model may be packed")
        for name, digest in (*self.members.items(), *self.packed.items()):
            if not PLAIN_NAME.fullmatch(name) or not _SHA256.fullmatch(digest):
                raise ValueError(f"member {name!r} with hash {digest!r}")


@dataclass(frozen=True)
class Golden:
    """Inputs that were given to the model and what it answered: [n, ...] by name.

    Real values, as `edge.engines.predict` takes and gives them.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, every byte of it checked against the manifest.

    `sha256` is of the whole file, `documents` the texts by name (DOCUMENTS); `signed` says whether there is a
    signature, not whether it is good.
    """

    manifest: Manifest
    model: bytes
    golden: Golden
    documents: Mapping[str, str]
    preprocess: Mapping[str, Preprocess]
    sha256: str
    signed: bool

    @property
    def report(self) -> str | None:
        """report.json of the run that made it, if it is inside."""
        return self.documents.get(REPORT)


def write_bundle(
    path: Path,
    artifact: Artifact,
    golden: Golden,
    *,
    name: str,
    target: str,
    task: str,
    preprocess: Mapping[str, Preprocess],
    labels: tuple[str, ...] = (),
    versions: Mapping[str, str] | None = None,
    tolerance: Mapping[str, float] | None = None,
    thresholds: Mapping[str, float] | None = None,
    requires: tuple[str, ...] = (),
    documents: Mapping[str, str] | None = None,
) -> str:
    """Write a bundle to `path`, whole or not at all, and return its sha256.

    `preprocess` has the names of the inputs of `artifact`, `golden` those of its inputs and outputs.
    `tolerance` is in the outputs' units; by default two steps of a quantized output, else 2/256 of the span of
    the golden outputs: kernels of other processors add and round in another order, and an 8-bit value inside
    the model that falls to the other side of a rounding moves the output by about one such step.

    Raises:
        BadInput: the parts do not belong together, or a part is larger than a bundle may hold.
        EnvironmentFailed: it cannot be written (DiskFull where no space is left).

    """
    if artifact.format not in MODEL_NAMES:
        raise BadInput(f"a bundle cannot hold a {artifact.format} model", f"convert it to {' or '.join(MODEL_NAMES)}")
    model = MODEL_NAMES[artifact.format]
    contents = {model: artifact.path.read_bytes(), GOLDEN: _pack_golden(golden)}
    contents |= {key: text.encode() for key, text in (documents or {}).items()}
    packed = _packed(contents[model], artifact.format)
    try:
        _check_golden(golden, artifact.inputs, artifact.outputs)
        manifest = Manifest(
            name=name,
            target=target,
            format=artifact.format,
            model=model,
            task=task,
            inputs=artifact.inputs,
            outputs=artifact.outputs,
            preprocess={key: dataclasses.asdict(step) for key, step in sorted(preprocess.items())},  # type: ignore[call-overload]  # every Preprocess is a dataclass, which a Protocol cannot say
            labels=labels,
            steps=artifact.steps,
            versions=dict(sorted((versions or {}).items())),
            tolerance={spec.name: _tolerance(spec, golden, tolerance or {}) for spec in artifact.outputs},
            members={key: hashlib.sha256(value).hexdigest() for key, value in sorted(contents.items())},
            packed={} if packed is None else {model: hashlib.sha256(packed).hexdigest()},
            thresholds=dict(sorted((thresholds or {}).items())),
            requires=requires,
        )
    except ValueError as error:
        raise BadInput(f"{path.name} cannot be made: {error}") from error
    contents[MANIFEST] = to_json(manifest).encode()
    for key, value in contents.items():
        if len(value) > MAX_BYTES[key]:
            raise BadInput(f"{key} has {len(value)} bytes; a bundle holds {MAX_BYTES[key]}")
    if packed is None:
        archive = write_archive(contents)
    else:
        archive = write_archive(contents | {model: packed}, stored=frozenset({model}))
    write_whole(path, archive)
    return hashlib.sha256(archive).hexdigest()


def stored_bytes(path: Path, file_format: str) -> int:
    """The bytes that a model file takes inside a bundle: packed, or deflated where that is smaller."""
    content = path.read_bytes()
    packed = _packed(content, file_format)
    return _deflated_bytes(content) if packed is None else len(packed)


def open_bundle(path: Path) -> Bundle:
    """Read a bundle and check every member against its hash, before anything parses the model.

    Raises:
        BadInput: the file is missing, cut short, changed, too large, or no bundle.

    """
    return parse_bundle(read_bundle(path), path)


def read_bundle(path: Path) -> bytes:
    """The bytes of a bundle's file, unparsed: what a signature is checked on.

    Raises:
        BadInput: the file is missing, too large, or plainly something else.

    """
    if path.suffix.lower() in MODEL_SUFFIXES:
        raise BadInput(f"{path} is a model, not a bundle", "edgetool compress makes a bundle (*.edge) of it")
    try:
        size = path.stat().st_size
        if size > MAX_BUNDLE_BYTES + MAX_SIGNATURE_BYTES:
            raise BadInput(f"{path} has {size} bytes, more than a bundle may")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def parse_bundle(content: bytes, path: Path) -> Bundle:
    """The bundle in the bytes of a file; `path` is for messages.

    Raises:
        BadInput: they are cut short, changed, too large, or no bundle.

    """
    try:
        payload, signature = split(content)
        contents = read_archive(payload, MAX_BYTES, most=len(DOCUMENTS) + 3)
        manifest = _read_manifest(contents)
        contents |= _unpacked(manifest, contents)
        _check_members(manifest, contents)
        golden = _unpack_golden(contents[GOLDEN])
        _check_golden(golden, manifest.inputs, manifest.outputs)
        steps = {name: from_plain(plain) for name, plain in manifest.preprocess.items()}
    except BadInput as error:
        raise BadInput(f"{path}: {error}", error.hint) from error
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} is damaged or no bundle: {reason}", "make or copy it again") from error
    documents = {name: contents[name].decode(errors="replace") for name in DOCUMENTS if name in contents}
    digest = hashlib.sha256(content).hexdigest()
    return Bundle(manifest, contents[manifest.model], golden, documents, steps, digest, signature is not None)


def _packed(model: bytes, file_format: str) -> bytes | None:
    """The model packed; None where deflating it is as small, or where it is too large to pack."""
    if len(model) > MAX_PACKED_MODEL_BYTES:
        return None
    packed = pack(model, file_format)
    return packed if len(packed) < _deflated_bytes(model) else None


def _deflated_bytes(content: bytes) -> int:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(deflate.compress(content)) + len(deflate.flush())


def _read_manifest(contents: Mapping[str, bytes]) -> Manifest:
    if MANIFEST not in contents:
        raise BadInput(f"it has no {MANIFEST}")
    data = json.loads(contents[MANIFEST])
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema not in READABLE:
        known = " and ".join(map(repr, READABLE))
        raise BadInput(f"its schema is {schema!r}; this program reads {known}", "install the edgetool it needs")
    try:
        manifest: Manifest = value_from_plain(Manifest, data)
    except (TypeError, AttributeError, KeyError) as error:
        raise BadInput(f"its manifest is damaged: {error}") from error
    return manifest


def _unpacked(manifest: Manifest, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The packed members as they were; what stands for them is checked before it is decoded."""
    unpacked = {}
    for name, digest in manifest.packed.items():
        if name not in contents:
            raise BadInput(f"it lacks {name}")
        _check_hash(name, contents[name], digest)
        unpacked[name] = unpack(contents[name], MAX_PACKED_MODEL_BYTES)
    return unpacked


def _check_members(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    expected, found = {*manifest.members, MANIFEST}, set(contents)
    if found != expected:
        missing, extra = sorted(expected - found), sorted(found - expected)
        raise BadInput(f"it lacks {missing[0]}" if missing else f"{extra[0]} is not in its manifest")
    for name, digest in manifest.members.items():
        _check_hash(name, contents[name], digest)


def _check_hash(name: str, content: bytes, digest: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != digest:
        raise BadInput(f"{name} was changed: sha256 {got[:12]}, the manifest says {digest[:12]}", "copy it again")


def _check_spec(spec: TensorSpec) -> None:
    lengths = all(length is None or (isinstance(length, int) and length > 0) for length in spec.shape)
    if not isinstance(spec.name, str) or not isinstance(spec.dtype, str) or not lengths:
        raise ValueError(f"tensor {spec.name!r} of shape {spec.shape!r} and dtype {spec.dtype!r}")
    if spec.quantization is not None and not (
        0 < spec.quantization.scale < float("inf") and isinstance(spec.quantization.zero_point, int)
    ):
        raise ValueError(f"tensor {spec.name!r} is quantized with {spec.quantization}")


def _check_golden(golden: Golden, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    for what, arrays, specs in (("input", golden.inputs, inputs), ("output", golden.outputs, outputs)):
        if set(arrays) != {spec.name for spec in specs}:
            raise ValueError(f"golden {what}s {sorted(arrays)}, but the model's are {[spec.name for spec in specs]}")
    lengths = {len(a) if a.ndim else 0 for a in (*golden.inputs.values(), *golden.outputs.values())}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"golden vectors of {sorted(lengths)} examples: all need the same number, at least one")


def _tolerance(spec: TensorSpec, golden: Golden, given: Mapping[str, float]) -> float:
    if spec.name in given:
        return float(given[spec.name])
    if spec.quantization is not None:
        return 2 * spec.quantization.scale
    values = np.asarray(golden.outputs[spec.name], np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"golden output {spec.name!r} has NaN or infinity")
    return 2 / 256 * float(np.ptp(values)) or 1e-6


def _pack_golden(golden: Golden) -> bytes:
    return pack_arrays({f"{side}.{k}": v for side in ("inputs", "outputs") for k, v in getattr(golden, side).items()})


def _unpack_golden(content: bytes) -> Golden:
    sides: dict[str, dict[str, Array]] = {"inputs": {}, "outputs": {}}
    for key, array in unpack_arrays(content, MAX_BYTES[GOLDEN]).items():
        side, _, name = key.partition(".")
        if side not in sides or not name:
            raise BadInput(f"{GOLDEN} holds {key!r}")
        sides[side][name] = array
    return Golden(sides["inputs"], sides["outputs"])
