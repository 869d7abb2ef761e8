import dataclasses
import hashlib
import io
import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.artifact import Artifact
from edge.bundle import (
    GOLDEN,
    LICENCES,
    MANIFEST,
    MAX_BYTES,
    PROVENANCE,
    REPORT,
    SBOM,
    Golden,
    open_bundle,
    stored_bytes,
    write_bundle,
)
from edge.engines.fake import FakeModel
from edge.errors import BadInput, EnvironmentFailed
from edge.preprocess import ArrayInput
from edge.tensors import Quantization, TensorSpec
from edge.trust.envelope import MARK, join

MODEL = FakeModel()
INPUTS = {"input": np.arange(12, dtype=np.float32).reshape(3, 4)}
OUTPUTS = {"output": np.cos(INPUTS["input"].sum(axis=1, keepdims=True) + np.arange(3)).astype(np.float32)}


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "source.fake"
    path.write_bytes(MODEL.to_bytes())
    return Artifact(path, "fake", MODEL.inputs, MODEL.outputs, "", ("prune.magnitude", "convert.litert"))


def write(path, artifact, **changes):
    settings = {
        "name": "tiny",
        "target": "generic-x86_64",
        "task": "numbers",
        "preprocess": {"input": ArrayInput(0.5)},
        "labels": ("a", "b", "c"),
        "versions": {"edgetool": "0.1.0"},
        "documents": {REPORT: '{"schema": "edgetool.report/1"}'},
        **changes,
    }
    return write_bundle(path, artifact, settings.pop("golden", Golden(INPUTS, OUTPUTS)), **settings)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, contents, **manifest_changes):
    """A bundle with other members, whose manifest has their hashes: what somebody careful would forge."""
    manifest = json.loads(contents[MANIFEST])
    manifest["members"] = {k: hashlib.sha256(v).hexdigest() for k, v in contents.items() if k != MANIFEST}
    manifest.update(manifest_changes)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**contents, MANIFEST: json.dumps(manifest).encode()}.items():
            archive.writestr(name, content)


def test_what_is_written_is_read(tmp_path, artifact):
    path = tmp_path / "deep" / "tiny.edge"
    digest = write(path, artifact)
    bundle = open_bundle(path)
    assert bundle.sha256 == digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert bundle.model == MODEL.to_bytes()
    assert bundle.manifest.inputs == MODEL.inputs
    assert bundle.manifest.labels == ("a", "b", "c")
    assert bundle.manifest.steps == ("prune.magnitude", "convert.litert")
    assert bundle.preprocess == {"input": ArrayInput(0.5)}
    assert json.loads(bundle.report)["schema"] == "edgetool.report/1"
    np.testing.assert_array_equal(bundle.golden.inputs["input"], INPUTS["input"])
    np.testing.assert_array_equal(bundle.golden.outputs["output"], OUTPUTS["output"])
    assert not list(path.parent.glob(".*"))


def test_the_same_content_makes_the_same_bytes(tmp_path, artifact):
    assert write(tmp_path / "a.edge", artifact) == write(tmp_path / "b.edge", artifact)
    assert write(tmp_path / "c.edge", artifact, name="other") != write(tmp_path / "a.edge", artifact)


def test_tolerances(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    assert open_bundle(path).manifest.tolerance["output"] == pytest.approx(2 / 256 * np.ptp(OUTPUTS["output"]))
    write(path, artifact, tolerance={"output": 0.25})
    assert open_bundle(path).manifest.tolerance["output"] == 0.25
    quantized = TensorSpec("output", (1, 3), "int8", Quantization(1 / 256, -128))
    write(path, dataclasses.replace(artifact, outputs=(quantized,)))
    assert open_bundle(path).manifest.tolerance["output"] == 2 / 256


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"preprocess": {"image": ArrayInput()}}, "preprocessing for"),
        ({"golden": Golden({"x": INPUTS["input"]}, OUTPUTS)}, "golden inputs"),
        ({"golden": Golden(INPUTS, {"output": OUTPUTS["output"][:2]})}, "same number"),
        ({"golden": Golden(INPUTS, {"output": OUTPUTS["output"] * np.nan})}, "NaN"),
        ({"tolerance": {"output": -1}}, "negative"),
    ],
)
def test_parts_that_do_not_belong_together_make_no_bundle(tmp_path, artifact, changes, says):
    with pytest.raises(BadInput, match=says):
        write(tmp_path / "a.edge", artifact, **changes)
    assert not (tmp_path / "a.edge").exists()


def test_a_keras_model_is_no_device_model(tmp_path, artifact):
    with pytest.raises(BadInput, match="keras"):
        write(tmp_path / "a.edge", dataclasses.replace(artifact, format="keras"))


@pytest.fixture
def real(artifact):
    """A model of 2,420 bytes that packing makes smaller than deflating does."""
    path = Path(__file__).parent / "data" / "tiny.tflite"
    return dataclasses.replace(artifact, path=path, format="tflite")


def test_a_model_is_packed_where_that_is_smaller(tmp_path, real):
    path = tmp_path / "a.edge"
    write(path, real)
    bundle = open_bundle(path)
    assert bundle.model == real.path.read_bytes()
    assert bundle.manifest.members["model.tflite"] == hashlib.sha256(bundle.model).hexdigest()
    kept = members(path)["model.tflite"]
    assert bundle.manifest.packed == {"model.tflite": hashlib.sha256(kept).hexdigest()}
    assert len(kept) == stored_bytes(real.path, "tflite") < len(bundle.model) / 2


def test_a_bundle_of_version_1_opens(tmp_path, real):
    path, old = tmp_path / "a.edge", tmp_path / "b.edge"
    write(path, real)
    contents = members(path)
    manifest = json.loads(contents[MANIFEST])
    del manifest["packed"]
    manifest["schema"] = "edgetool.bundle/1"
    with zipfile.ZipFile(old, "w") as archive:
        for name, content in (contents | {"model.tflite": real.path.read_bytes()}).items():
            archive.writestr(name, json.dumps(manifest) if name == MANIFEST else content)
    assert open_bundle(old).model == real.path.read_bytes()


def test_a_packed_model_that_was_changed_is_refused(tmp_path, real):
    path = tmp_path / "a.edge"
    write(path, real)
    contents = members(path)
    manifest = json.loads(contents[MANIFEST])
    damaged = contents["model.tflite"][:-4]
    for packed, says in (
        (manifest["packed"], "was changed"),
        ({"model.tflite": hashlib.sha256(damaged).hexdigest()}, "coded symbols"),
        ({"golden.npz": "0" * 64}, "only the model"),
    ):
        rewrite(path, contents | {"model.tflite": damaged}, packed=packed, members=manifest["members"])
        with pytest.raises(BadInput, match=says):
            open_bundle(path)


def test_where_nothing_can_be_written(tmp_path, artifact):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailed, match="cannot write"):
        write(tmp_path / "file" / "a.edge", artifact)


def test_every_changed_byte_is_found_or_harmless(tmp_path, artifact):
    path, damaged = tmp_path / "a.edge", tmp_path / "b.edge"
    write(path, artifact)
    whole, original = path.read_bytes(), open_bundle(path)
    rng = np.random.default_rng(0)
    found = harmless = 0
    for position in rng.choice(len(whole), 400, replace=False):
        content = bytearray(whole)
        content[position] ^= 1 << rng.integers(8)
        damaged.write_bytes(content)
        try:
            got = open_bundle(damaged)
        except BadInput as error:
            found += str(damaged) in error.message and "\n" not in error.message
        else:  # a date, or a flag that nobody reads
            assert (got.manifest, got.model, got.report) == (original.manifest, original.model, original.report)
            harmless += 1
    assert found + harmless == 400  # every error is one line that names the file
    assert found > 300


def test_every_truncation_is_found(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match="damaged or no bundle"):
            open_bundle(path)
    with pytest.raises(BadInput, match="cannot read"):
        open_bundle(tmp_path / "nowhere.edge")


def test_a_changed_member_is_named(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    contents = members(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content + (b" " if name == "model.fake" else b""))
    with pytest.raises(BadInput, match=r"model\.fake was changed"):
        open_bundle(path)


@pytest.mark.parametrize("missing", ["model.fake", GOLDEN, REPORT, MANIFEST])
def test_a_missing_member_is_named(tmp_path, artifact, missing):
    path = tmp_path / "a.edge"
    write(path, artifact)
    contents = members(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            if name != missing:
                archive.writestr(name, content)
    with pytest.raises(BadInput, match=missing.replace(".", r"\.")):
        open_bundle(path)


@pytest.mark.parametrize("name", ["extra.txt", "../out.txt", "/etc/passwd", "a/b", "..", ".hidden", "a\\b"])
def test_extra_members_and_paths_that_climb_out_are_refused(tmp_path, artifact, name):
    path = tmp_path / "a.edge"
    write(path, artifact, documents=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(BadInput):
        open_bundle(path)
    contents = members(path)
    rewrite(path, contents)
    with pytest.raises(BadInput):
        open_bundle(path)


def test_symlinks_and_doubled_members_are_refused(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    contents = members(path)
    link = zipfile.ZipInfo("model.fake")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
        archive.writestr(MANIFEST, contents[MANIFEST])
    with pytest.raises(BadInput, match="no plain file"):
        open_bundle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, contents[MANIFEST])
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(MANIFEST, contents[MANIFEST])
    with pytest.raises(BadInput, match="twice"):
        open_bundle(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    contents = members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, bytes(MAX_BYTES[MANIFEST] + 1))
        archive.writestr("model.fake", contents["model.fake"])
    assert path.stat().st_size < 100_000
    with pytest.raises(BadInput, match="unpacks to"):
        open_bundle(path)


def test_a_forged_array_header_takes_no_memory(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    contents = members(path)
    stream = io.BytesIO()
    np.save(stream, np.zeros(10))
    huge = stream.getvalue().replace(b"(10,), }            ", b"(1000000000000,), } ")
    golden = io.BytesIO()
    with zipfile.ZipFile(golden, "w") as archive:
        archive.writestr("inputs.input.npy", huge)
    rewrite(path, contents | {GOLDEN: golden.getvalue()})
    with pytest.raises(BadInput, match="announces"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": "edgetool.bundle/9"}, "schema"),
        ({"name": 3}, "text"),
        ({"inputs": []}, "no inputs"),
        ({"inputs": 3}, "manifest"),
        ({"colour": "red"}, "colour"),
        ({"preprocess": {"input": {"kind": "magic"}}}, "magic"),
        ({"model": "../model.fake"}, "members"),
        ({"members": {"model.fake": "00", GOLDEN: "00"}}, "hash"),
        ({"tolerance": {"output": "NaN"}}, "damaged"),
        ({"outputs": [{"name": "output", "shape": [1, -3], "dtype": "float32", "quantization": None}]}, "tensor"),
    ],
)
def test_forged_manifests_are_refused(tmp_path, artifact, changes, says):
    path = tmp_path / "a.edge"
    write(path, artifact)
    rewrite(path, members(path), **changes)
    with pytest.raises(BadInput, match=says):
        open_bundle(path)


def test_thresholds_requirements_and_documents_travel(tmp_path, artifact):
    path = tmp_path / "a.edge"
    texts = {REPORT: "{}", SBOM: '{"bomFormat": "CycloneDX"}', PROVENANCE: "{}", LICENCES: "Model: MIT\n"}
    write(path, artifact, thresholds={"b": 0.75, "a": 0.5}, requires=("numpy>=1.24",), documents=texts)
    bundle = open_bundle(path)
    assert bundle.manifest.thresholds == {"a": 0.5, "b": 0.75}
    assert bundle.manifest.requires == ("numpy>=1.24",)
    assert bundle.documents == texts
    assert not bundle.signed
    assert set(bundle.manifest.members) == {"model.fake", GOLDEN, *texts}
    again = tmp_path / "b.edge"
    write(again, artifact, thresholds={"a": 0.5, "b": 0.75}, requires=("numpy>=1.24",), documents=texts)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", [SBOM, PROVENANCE, LICENCES])
def test_a_missing_or_changed_document_is_refused(tmp_path, artifact, name):
    path = tmp_path / "a.edge"
    write(path, artifact, documents={name: "text"})
    contents = members(path)
    for changed in ({k: v for k, v in contents.items() if k != name}, contents | {name: b"other text"}):
        with zipfile.ZipFile(path, "w") as archive:
            for key, content in changed.items():
                archive.writestr(key, content)
        with pytest.raises(BadInput, match=name.replace(".", r"\.")):
            open_bundle(path)


def test_a_document_of_another_name_makes_no_bundle(tmp_path, artifact):
    with pytest.raises(BadInput, match="members"):
        write(tmp_path / "a.edge", artifact, documents={"extra.txt": "text"})
    assert not (tmp_path / "a.edge").exists()


def test_a_threshold_that_is_no_number_makes_no_bundle(tmp_path, artifact):
    with pytest.raises(BadInput, match="threshold"):
        write(tmp_path / "a.edge", artifact, thresholds={"a": float("nan")})


def test_many_small_members_are_no_way_to_a_bomb(tmp_path, artifact):
    """Each below the limit of a model, all together not: names that no bundle has are refused unread."""
    path = tmp_path / "a.edge"
    write(path, artifact)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(200):
            archive.writestr(f"model{number}.fake", bytes(1 << 16))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadInput, match="does not belong into a bundle"):
        open_bundle(path)


def test_a_size_that_is_forged_unpacks_no_further(tmp_path, artifact):
    """The directory says 10 bytes where a megabyte of zeros is: no more than ten are read, and they do not fit."""
    path = tmp_path / "a.edge"
    write(path, artifact)
    contents = members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, bytes(1 << 20) if name == "model.fake" else content)
    forged = path.read_bytes().replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(forged)
    with pytest.raises(BadInput):
        open_bundle(path)


def test_what_stands_behind_the_archive_is_a_signature_or_refused(tmp_path, artifact):
    path = tmp_path / "a.edge"
    write(path, artifact)
    whole = path.read_bytes()
    path.write_bytes(join(whole, b"{}"))
    assert open_bundle(path).signed
    path.write_bytes(whole + (1 << 31).to_bytes(4, "big") + MARK)
    with pytest.raises(BadInput, match="announces a signature"):
        open_bundle(path)
