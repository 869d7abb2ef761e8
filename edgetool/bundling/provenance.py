"""provenance.json of a bundle: what was done to which model with which data, as in-toto and SLSA word it.

An in-toto statement (v1) about the model's file with SLSA's provenance predicate (v1). It holds no time of day, so that
the same run makes the same bytes. It is as good as the signature on the bundle around it.
"""

from typing import Any

from edge.artifact import Artifact
from edge.report import to_json
from edgetool.bundling.origin import Origin


def provenance(file: str, artifact: Artifact, origin: Origin) -> str:
    """The statement as JSON; `file` is the model's name inside the bundle."""
    source = origin.source
    statement: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": file, "digest": {"sha256": artifact.sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"edgetool.{origin.command}/1",
                "externalParameters": {"steps": list(artifact.steps), **origin.settings},
                "resolvedDependencies": [
                    {"name": source.path.name, "digest": {"sha256": source.sha256}, "mediaType": source.format},
                    {"name": f"task:{origin.task}", "digest": {"sha256": origin.task_sha256}},
                ],
            },
            "runDetails": {
                "builder": {"id": f"edgetool {origin.versions.get('edgetool', '')}".strip(), "version": origin.versions}
            },
        },
    }
    return to_json(statement)
