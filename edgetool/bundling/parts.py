"""What a bundle needs of a device: packages by name, version and licence, from what is installed here."""

import re
from dataclasses import dataclass
from importlib import metadata

# The runtime's extra in pyproject.toml, by the model's format
EXTRA = {"tflite": "litert", "onnx": "onnx"}
_REQUIREMENT = re.compile(
    r"(?P<requirement>(?P<name>[A-Za-z0-9._-]+)[^;]*)(?:;\s*extra == ['\"](?P<extra>[^'\"]+)['\"])?"
)


@dataclass(frozen=True)
class Part:
    """A package: `licence` is an SPDX expression, or what its author wrote instead; None where nothing is said."""

    name: str
    version: str
    licence: str | None


def requirements(file_format: str) -> tuple[str, ...]:
    """What a device's Python needs to run a model of this format, as edgetool's own metadata says it (PEP 508)."""
    found = []
    for line in metadata.requires("edgetool") or ():
        match = _REQUIREMENT.fullmatch(line.strip())
        if match and match["extra"] in (None, EXTRA.get(file_format)):
            found.append(match["requirement"].strip())
    return tuple(sorted(found))


def parts(requires: tuple[str, ...]) -> tuple[Part, ...]:
    """The packages behind requirements, and edgetool itself, as they are installed here; others are left out."""
    found = []
    for line in ("edgetool", *requires):
        match = _REQUIREMENT.fullmatch(line)
        try:
            about = metadata.metadata(match["name"]) if match else None
        except metadata.PackageNotFoundError:
            continue
        if about is not None:
            found.append(Part(about["Name"], about["Version"], _licence(about)))
    return tuple(found)


def _licence(about: metadata.PackageMetadata) -> str | None:
    if "License-Expression" in about:
        return str(about["License-Expression"])
    classifiers = [text for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    if classifiers:
        return "; ".join(text.rpartition(" :: ")[2] for text in classifiers)
    return str(about["License"]).splitlines()[0] if "License" in about else None
