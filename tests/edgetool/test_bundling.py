"""What travels beside the model says what was done to what, the same in every run, in the forms others read."""

import dataclasses
import json
from importlib import metadata
from pathlib import Path

import jsonschema_rs
import pytest

from edge.artifact import Artifact
from edge.bundle import DOCUMENTS, REPORT
from edge.report import Accuracy
from edge.tensors import TensorSpec
from edgetool.bundling.licences import licences
from edgetool.bundling.origin import Origin, documents
from edgetool.bundling.parts import Part, parts, requirements
from edgetool.bundling.provenance import provenance
from edgetool.bundling.sbom import bill_of_materials

INPUT, OUTPUT = TensorSpec("image", (None, 28, 28, 1), "float32"), TensorSpec("scores", (None, 10), "int8")
SOURCE = Artifact(Path("net.keras"), "keras", (INPUT,), (OUTPUT,), "a" * 64)
MODEL = Artifact(Path("net.tflite"), "tflite", (INPUT,), (OUTPUT,), "b" * 64, ("prune.magnitude", "quantize.int8"))
ORIGIN = Origin(
    "compress",
    SOURCE,
    "clothes <b>",
    "1" * 64,
    {"target": "raspberrypi5", "limits": {"max_drop": 1.0}, "seed": 0},
    {"edgetool": "0.1.0", "numpy": "2.0.1"},
    Accuracy("accuracy", 0.92, 6000, "test", (0.91, 0.93)),
    ("numpy>=1.24",),
)
PARTS = (Part("numpy", "2.0.1", "BSD-3-Clause"), Part("ai-edge-litert", "2.3.0", "Apache Software License"))


def test_what_a_format_needs_is_what_the_package_says() -> None:
    lite, onnx = requirements("tflite"), requirements("onnx")
    assert any(line.startswith("numpy>=") for line in lite)
    assert any(line.startswith("ai-edge-litert>=") for line in lite)
    assert any(line.startswith("onnxruntime>=") for line in onnx)
    assert not any(line.startswith(("tensorflow", "onnxruntime")) for line in lite)


def test_parts_are_as_installed() -> None:
    found = {part.name: part for part in parts(("numpy>=1.24", "no-such-package>=1"))}
    assert found["numpy"].version == metadata.version("numpy")
    assert "BSD" in (found["numpy"].licence or "")
    assert found["edgetool"].licence == "Apache-2.0"
    assert "no-such-package" not in found


def bom() -> str:
    return bill_of_materials("net", MODEL, PARTS, ORIGIN)


def test_the_bill_of_materials_names_the_model_its_ancestor_and_its_parts() -> None:
    plain = json.loads(bom())
    subject = plain["metadata"]["component"]
    assert subject["type"] == "machine-learning-model"
    assert subject["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert subject["pedigree"]["ancestors"][0]["hashes"][0]["content"] == "a" * 64
    assert subject["modelCard"]["modelParameters"]["outputs"] == [{"format": "scores: int8 [?, 10]"}]
    (metric,) = subject["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", "0.92")
    urls = {part["purl"] for part in plain["components"]}
    assert urls == {"pkg:pypi/numpy@2.0.1", "pkg:pypi/ai-edge-litert@2.3.0"}
    licences_ = {part["name"]: part["licenses"][0] for part in plain["components"]}
    assert licences_["numpy"]["license"]["id"] == "BSD-3-Clause"
    assert licences_["ai-edge-litert"]["license"]["name"] == "Apache Software License"


def test_the_bill_of_materials_is_the_same_every_time() -> None:
    assert bom() == bom()
    other = dataclasses.replace(MODEL, sha256="c" * 64)
    serials = {json.loads(text)["serialNumber"] for text in (bom(), bill_of_materials("net", other, PARTS, ORIGIN))}
    assert len(serials) == 2
    assert "timestamp" not in bom()


def test_the_bill_of_materials_is_cyclonedx() -> None:
    import cyclonedx.schema

    folder = Path(cyclonedx.schema.__file__).parent / "_res"
    schema, *others = (
        json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text()) for name in ("bom-1.6", "spdx", "jsf-0.82")
    )
    base = "http://cyclonedx.org/schema/"
    known = [(f"{base}{name}.SNAPSHOT.schema.json", it) for name, it in zip(("spdx", "jsf-0.82"), others, strict=True)]
    for one in others:
        del one["$id"]  # it names another address than the one they are referred to by
    validator = jsonschema_rs.validator_for(schema, registry=jsonschema_rs.Registry(known))
    validator.validate(json.loads(bom()))
    broken = json.loads(bom())
    broken["metadata"]["component"]["type"] = "model"
    with pytest.raises(jsonschema_rs.ValidationError):
        validator.validate(broken)


def test_provenance_says_what_was_done_to_what_with_which_data() -> None:
    text = provenance("model.tflite", MODEL, ORIGIN)
    assert text == provenance("model.tflite", MODEL, ORIGIN)
    plain = json.loads(text)
    assert plain["subject"] == [{"name": "model.tflite", "digest": {"sha256": "b" * 64}}]
    definition = plain["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["steps"] == ["prune.magnitude", "quantize.int8"]
    assert definition["externalParameters"]["limits"] == {"max_drop": 1.0}
    digests = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"]}
    assert digests == {"net.keras": "a" * 64, "task:clothes <b>": "1" * 64}


def test_licences_are_as_stated_beside_the_model(tmp_path: Path) -> None:
    model = tmp_path / "net.keras"
    text = licences(model, "fashion_mnist", PARTS)
    assert "Model net.keras:\n    not stated\n" in text
    assert "MIT" in text
    assert "numpy 2.0.1: BSD-3-Clause" in text
    (tmp_path / "net.keras.license").write_text("SPDX-FileCopyrightText: 2026 Somebody\nSPDX-License-Identifier: MIT\n")
    text = licences(model, "own data", (Part("x", "1", None),))
    assert "Model net.keras:\n    SPDX-FileCopyrightText: 2026 Somebody\n    SPDX-License-Identifier: MIT\n" in text
    assert "Data own data:\n    not stated" in text
    assert "x 1: not stated" in text


def test_all_documents_but_the_report_come_from_the_origin() -> None:
    assert set(documents("net", MODEL, ORIGIN)) == set(DOCUMENTS) - {REPORT}


def test_a_model_that_was_bundled_as_it_is_has_no_ancestor() -> None:
    origin = dataclasses.replace(ORIGIN, command="bundle", source=MODEL, accuracy=None)
    subject = json.loads(bill_of_materials("net", MODEL, PARTS, origin))["metadata"]["component"]
    assert "pedigree" not in subject
    assert "quantitativeAnalysis" not in subject["modelCard"]
    plain = json.loads(provenance("model.tflite", MODEL, origin))
    assert plain["predicate"]["buildDefinition"]["buildType"] == "edgetool.bundle/1"
