"""The tables of docs/peers.md, made from the figures that a run wrote."""

from collections.abc import Mapping, Sequence

from benchmarks.figures import Figure
from benchmarks.peers.catalogue import METHODS
from benchmarks.peers.judge import COSTS

_FORMATS = {method.id: method.gives for method in METHODS}


def page_tables(model: str, figures: Sequence[Figure]) -> str:
    """In Markdown: a row a file of `model`, what of the peers' lies outside our front, and what was not made."""
    own = {figure.name.removeprefix(f"{model}."): figure for figure in figures if figure.name.startswith(f"{model}.")}
    if not own:
        return "Not measured.\n"
    files = [name.removesuffix(".accuracy") for name in own if name.endswith(".accuracy")]
    lacks = {name: figure for name, figure in own.items() if ".outside." in name}
    text = _files(files, own, lacks) + ("\n" + _outside(lacks) if lacks else "")
    if failed := [name for name, figure in own.items() if figure.goal == "made"]:
        text += "\nNot made:\n\n" + "".join(f"- {name}\n" for name in sorted(failed))
    if (examples := own.get("test_examples")) is not None:
        text = f"{examples.value:,.0f} test examples.\n\n{text}"
    return text


def _files(files: Sequence[str], own: Mapping[str, Figure], lacks: Mapping[str, Figure]) -> str:
    lines = ["| file | engine | accuracy % | bytes | gzip | time | outside |", "|---|---|---|---|---|---|---|"]
    for file in sorted(files, key=lambda file: (_engine(file), not _is_ours(file), file)):
        accuracy, time = own[f"{file}.accuracy"], own.get(f"{file}.time")
        sizes = [f"{own[f'{file}.{cost}'].value or 0:,.0f}" for cost in ("bytes", "gzip")]
        out = ", ".join(cost for cost in COSTS if any(name.startswith(f"{file}.outside.{cost}") for name in lacks))
        cells = (file, _engine(file), _value(accuracy), *sizes, "not measured" if time is None else _value(time), out)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _outside(lacks: Mapping[str, Figure]) -> str:
    lines = ["| outside | by | nearest of ours | how far |", "|---|---|---|---|"]
    for name, figure in lacks.items():
        peer, _, rest = name.partition(".outside.")
        cost, _, nearest = rest.partition(": ")
        cost, _, kind = cost.partition(".")
        far = {
            "gap": f"as cheap, {_value(figure)} points less accurate",
            "ratio": f"as accurate, {_value(figure, 3)} x",
        }
        lines.append(f"| {peer} | {cost} | {nearest if kind else ''} | {far.get(kind, nearest)} |")
    return "\n".join(lines) + "\n"


def _is_ours(file: str) -> bool:
    return file.startswith(("float32.", "ours."))


def _engine(file: str) -> str:
    if file.startswith("float32."):
        return file.removeprefix("float32.")
    if _is_ours(file):
        return "onnx" if file.startswith("ours.onnx") else "tflite"
    return _FORMATS[file]


def _value(figure: Figure, digits: int = 2) -> str:
    value = f"{figure.value:.{digits}f}"
    if figure.ci95 is None or figure.ci95[0] == figure.ci95[1]:
        return value
    return f"{value} ({figure.ci95[0]:.{digits}f} … {figure.ci95[1]:.{digits}f})"
