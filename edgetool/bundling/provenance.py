"""provenance.json of a bundle: what was done to which model with which data, as in-toto and SLSA word it.

An in-toto statement (v1) about the model's file with SLSA's provenance predicate (v1). It holds no time of day, so that
the same run makes the same bytes. It is as good as the signature on the bundle around it.
"""

import dataclasses
from typing import Any

from edge.artifact import Artifact
from edge.report import Report, to_json

BUILD_TYPE = "edgetool.compress/1"


def provenance(file: str, artifact: Artifact, source: Artifact, report: Report) -> str:
    """The statement as JSON; `file` is the model's name inside the bundle."""
    limits = {key: value for key, value in dataclasses.asdict(report.limits).items() if value is not None}
    statement: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": file, "digest": {"sha256": artifact.sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "steps": list(artifact.steps),
                    "target": report.target,
                    "limits": limits,
                    "seed": report.seed,
                },
                "resolvedDependencies": [
                    {"name": source.path.name, "digest": {"sha256": source.sha256}, "mediaType": source.format},
                    {"name": f"task:{report.task.name}", "digest": {"sha256": report.task.sha256}},
                ],
            },
            "runDetails": {
                "builder": {
                    "id": f"edgetool {report.edgetool}",
                    "version": {"edgetool": report.edgetool, **report.environment.versions},
                }
            },
        },
    }
    return to_json(statement)
