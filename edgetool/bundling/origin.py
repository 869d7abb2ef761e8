"""Where a bundled model comes from, and the documents that say so."""

from dataclasses import dataclass, field
from typing import Any

from edge.artifact import Artifact
from edge.bundle import LICENCES, MODEL_NAMES, PROVENANCE, SBOM
from edge.report import Accuracy


@dataclass(frozen=True)
class Origin:
    """`command` is the one that made the bundle ("compress"), `source` the model it was given, `settings` what else
    the result depends on, `versions` what it was made with, `accuracy` what was measured, if anything was.
    """

    command: str
    source: Artifact
    task: str
    task_sha256: str
    settings: dict[str, Any]
    versions: dict[str, str]
    accuracy: Accuracy | None = None
    requires: tuple[str, ...] = field(default=())


def documents(name: str, artifact: Artifact, origin: Origin) -> dict[str, str]:
    """The bill of materials, the provenance and the licences of a model, by their names in a bundle."""
    from edgetool.bundling.licences import licences
    from edgetool.bundling.parts import parts
    from edgetool.bundling.provenance import provenance
    from edgetool.bundling.sbom import bill_of_materials

    packages = parts(origin.requires)
    return {
        SBOM: bill_of_materials(name, artifact, packages, origin),
        PROVENANCE: provenance(MODEL_NAMES[artifact.format], artifact, origin),
        LICENCES: licences(origin.source.path, origin.task, packages),
    }
