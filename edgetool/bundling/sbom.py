"""The bill of materials of a bundle: CycloneDX 1.6 with the model as its subject (an ML-BOM).

The same content makes the same text: no time of day, and a serial number that follows from the content.
"""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from edge.artifact import Artifact
from edge.report import to_json
from edge.tensors import TensorSpec
from edgetool.bundling.origin import Origin
from edgetool.bundling.parts import Part

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "edgetool.bundle/sbom")


def bill_of_materials(name: str, artifact: Artifact, parts: Sequence[Part], origin: Origin) -> str:
    """The model (hash, steps, tensors, measured accuracy), the model it was made of, and what runs it, as JSON."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType, Pedigree
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    def model(label: str, of: Artifact, pedigree: Pedigree | None = None) -> Component:
        return Component(
            name=label,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=f"sha256:{of.sha256}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=of.sha256)],
            properties=[
                Property(name="edgetool:format", value=of.format),
                *(Property(name=f"edgetool:step:{n}", value=step) for n, step in enumerate(of.steps, 1)),
            ],
            pedigree=pedigree,
        )

    source = origin.source
    made = source.sha256 != artifact.sha256
    subject = model(name, artifact, Pedigree(ancestors=[model(source.path.name, source)]) if made else None)
    packages = [_package(part) for part in parts]
    bom = Bom(components=packages, metadata=BomMetaData(component=subject))
    bom.register_dependency(subject, packages)
    plain = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    del plain["metadata"]["timestamp"]
    plain["metadata"]["component"]["modelCard"] = _model_card(artifact, origin)
    del plain["serialNumber"]
    plain["serialNumber"] = uuid.uuid5(NAMESPACE, json.dumps(plain, sort_keys=True)).urn
    return to_json(plain)


def _package(part: Part) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

    url = PackageURL("pypi", None, part.name.lower().replace("_", "-"), part.version)
    licences: list[DisjunctiveLicense | LicenseExpression] = []
    if part.licence is not None:
        licences = [_licence(part.licence)]
    return Component(
        name=part.name,
        version=part.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        licenses=licences,
    )


def _licence(text: str) -> Any:
    """An SPDX expression where the text is one, else a licence by name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return LicenseFactory().make_from_string(text)


def _model_card(artifact: Artifact, origin: Origin) -> dict[str, Any]:
    card: dict[str, Any] = {
        "modelParameters": {
            "task": origin.task,
            "datasets": [
                {
                    "type": "dataset",
                    "name": origin.task,
                    "contents": {"properties": [{"name": "edgetool:sha256", "value": origin.task_sha256}]},
                }
            ],
            "inputs": [{"format": _tensor(spec)} for spec in artifact.inputs],
            "outputs": [{"format": _tensor(spec)} for spec in artifact.outputs],
        }
    }
    if origin.accuracy is not None:
        low, high = origin.accuracy.ci95
        card["quantitativeAnalysis"] = {
            "performanceMetrics": [
                {
                    "type": origin.accuracy.metric,
                    "value": f"{origin.accuracy.value:.6g}",
                    "slice": f"{origin.accuracy.split}, n = {origin.accuracy.n}",
                    "confidenceInterval": {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"},
                }
            ]
        }
    return card


def _tensor(spec: TensorSpec) -> str:
    shape = ", ".join("?" if length is None else str(length) for length in spec.shape)
    return f"{spec.name}: {spec.dtype} [{shape}]"
