"""licences.txt of a bundle: what is known of the rights to the model, its data and what runs it."""

from collections.abc import Sequence
from pathlib import Path

from edgetool.bundling.parts import Part

# The built-in tasks, as their publishers state it
DATA = {
    "fashion_mnist": "Fashion-MNIST, Zalando SE, MIT",
    "diabetes": "Diabetes data of Efron, Hastie, Johnstone and Tibshirani (2004), as scikit-learn distributes it",
    "breast_cancer": "Breast Cancer Wisconsin (Diagnostic), Wolberg, Mangasarian, Street and Street, CC BY 4.0",
}
NOT_STATED = "not stated"


def licences(model: Path, task: str, parts: Sequence[Part]) -> str:
    """The notes. Those on the model are from MODEL.license beside it, where the REUSE specification puts them."""
    beside = model.with_name(f"{model.name}.license")
    try:
        stated = beside.read_text(encoding="utf-8").strip() if beside.is_file() else ""
    except (OSError, ValueError):
        stated = ""
    lines = [
        f"Model {model.name}:",
        *(f"    {line}".rstrip() for line in (stated or NOT_STATED).splitlines()),
        f"Data {task}:",
        f"    {DATA.get(task, NOT_STATED)}",
        "Needed on the device, not inside this bundle:",
        *(f"    {part.name} {part.version}: {part.licence or NOT_STATED}" for part in parts),
    ]
    return "\n".join(lines) + "\n"
