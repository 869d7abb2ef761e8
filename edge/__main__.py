"""The device's command line: `python -m edge run | verify | info | bench | update`.

numpy and the runtimes are imported by the command that needs them, so that `--help` is there at once.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.console import exit_code, printable_streams

if TYPE_CHECKING:
    from edge.bundle import Bundle, Manifest
    from edge.engines import Engine
    from edge.tensors import Array, TensorSpec

TRUSTED_KEY = "refuse a bundle that this public key did not sign, before it is parsed (again for another key)"
TRUSTED_ROOT = "the same for certificates that descend from this one"
SHOWN_VALUES = 16  # of an output; more is a picture or a signal, and is summed up

EXAMPLES = """examples:
  python -m edge verify model.edge                 hashes, and the golden vectors replayed here
  python -m edge verify model.edge --key maker.pub and before that who signed it
  python -m edge run model.edge picture.pgm        what the model says to a file
  python -m edge run model.edge clip.wav --stream  what it says after each frame, its state kept between them
  python -m edge bench model.edge --seconds 10     latency and memory in clean processes
  python -m edge update door --channel URL ...     the newest release, if it is to be trusted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run one command, and return its exit code (design section 4)."""
    printable_streams()
    options = _parser().parse_args(arguments)
    try:
        return exit_code(lambda: options.command(options))
    except Exception:  # noqa: BLE001 - a bug: exit 70 with its traceback
        import traceback

        traceback.print_exc()
        return 70


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edge",
        description="Run and check a bundle on a device.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a bundle's model on files")
    run.add_argument("bundle", type=Path, metavar="BUNDLE")
    run.add_argument("files", type=Path, nargs="+", metavar="FILE", help="pictures, .wav, .csv, .npy or .npz")
    run.add_argument("--stream", action="store_true", help="frame by frame: the answer after each one")
    run.add_argument("--top", type=_positive, default=1, metavar="N", help="the N most probable classes (1)")
    run.set_defaults(command=_run)

    verify = commands.add_parser("verify", help="check every hash and replay the golden vectors")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.set_defaults(command=_verify)

    info = commands.add_parser("info", help="say what is in a bundle")
    info.add_argument("bundle", type=Path, metavar="BUNDLE")
    info.set_defaults(command=_info)

    bench = commands.add_parser("bench", help="time a model in clean processes")
    bench.add_argument("model", type=Path, metavar="BUNDLE|MODEL", help="*.edge, *.tflite or *.onnx")
    bench.add_argument("--seconds", type=_seconds, default=5.0, metavar="S", help="how long to measure (5)")
    bench.add_argument("--delegate", default="cpu", metavar="NAME", help="run on it; all operations have to (cpu)")
    bench.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="tell the delegate something")
    bench.add_argument("--allow-fallback", default="", metavar="OP,...", help="operations that may run elsewhere")
    bench.add_argument("--launches", type=_positive, default=4, metavar="N", help="in that many processes (4)")
    bench.add_argument("--samples", action="store_true", help="with --json: every call, by process")
    bench.set_defaults(command=_bench)

    update = commands.add_parser("update", help="fetch the newest release of a bundle from a channel (TUF)")
    update.add_argument("name", metavar="NAME", help="the bundle's name in the channel")
    update.add_argument("--channel", required=True, metavar="URL", help="https://, http:// or file://")
    update.add_argument("--root", type=Path, required=True, metavar="JSON", help="the channel's first root metadata")
    update.add_argument("--state", type=Path, required=True, metavar="DIR", help="what was seen; outlives releases")
    update.add_argument("--device", required=True, metavar="CLASS", help="what kind of device this is: raspberrypi5")
    update.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the bundle goes")
    update.add_argument("--json", action="store_true", help="print JSON")
    update.set_defaults(command=_update)

    for command in (run, verify, bench):
        command.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads of the runtime (1)")
    for command in (run, verify, info, bench):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--key", type=Path, action="append", default=[], metavar="PEM", help=TRUSTED_KEY)
        command.add_argument("--certificate", type=Path, action="append", default=[], metavar="PEM", help=TRUSTED_ROOT)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 3600")
    return value


def _run(options: argparse.Namespace) -> None:
    from edge.preprocess import read_examples
    from edge.streaming import open_step

    bundle, _ = _trusted(options, options.bundle)
    if options.stream:
        engine = open_step(bundle.model, bundle.manifest.format, threads=options.threads)
    else:
        engine = _open(bundle, options.threads)
    results = []
    try:
        for file in options.files:
            for name, raw in read_examples(file, bundle.preprocess):
                for shown, outputs in _answers(options, name, raw, bundle, engine):
                    result = _result(shown, outputs, bundle.manifest, options.top)
                    results.append(result)
                    if not options.json:
                        _print(_line(result))
    finally:
        engine.close()
    if options.json:
        _print(json.dumps({"bundle": str(options.bundle), "results": results}, indent=2))


def _answers(
    options: argparse.Namespace, name: str, raw: "Mapping[str, Array]", bundle: "Bundle", engine: "Engine"
) -> "Iterator[tuple[str, dict[str, Array]]]":
    """The answer to an example by its name; streamed, one for each frame, numbered `clip.wav[0]`."""
    from edge.answer import answer, first
    from edge.engines import predict
    from edge.errors import BadData
    from edge.streaming import steps

    if not options.stream:
        yield name, answer(name, raw, lambda feeds: predict(engine, feeds), bundle.preprocess, engine.inputs)
        return
    try:
        example = {key: step(raw[key]) for key, step in bundle.preprocess.items()}
        for at, outputs in enumerate(steps(engine, example)):
            yield f"{name}[{at}]", first(outputs)
    except BadData as error:
        raise BadData(f"{name}: {error}", error.hint) from error


def _trusted(options: argparse.Namespace, path: Path) -> "tuple[Bundle, str]":
    """The bundle and what is known of its signature; where there is a key, nothing is parsed that it did not sign."""
    from edge.bundle import parse_bundle, read_bundle

    content = read_bundle(path)
    if not options.key and not options.certificate:
        bundle = parse_bundle(content, path)
        return bundle, "not checked: no --key, no --certificate" if bundle.signed else "none"
    from edge.trust.signature import Trusted, require_signature

    signer = require_signature(content, path, Trusted(tuple(options.key), tuple(options.certificate)))
    who = f"key {signer.key_sha256[:16]}" if signer.subject is None else signer.subject
    return parse_bundle(content, path), f"of {who}"


def _open(bundle: "Bundle", threads: int) -> "Engine":
    from edge.answer import require_names
    from edge.engines import open_engine
    from edge.errors import BadInput

    engine = open_engine(bundle.model, bundle.manifest.format, threads=threads)
    try:
        require_names(bundle.manifest, engine.inputs, engine.outputs)
    except BadInput:
        engine.close()
        raise
    return engine


def _result(name: str, outputs: "dict[str, Array]", manifest: "Manifest", top: int) -> dict[str, Any]:
    """The answer for one example as plain data: the ranked classes of the first output, and all other values."""
    import numpy as np

    from edge.answer import rank

    result: dict[str, Any] = {"input": name}
    ranked = rank(outputs, manifest, top)
    if ranked:
        result["top"] = ranked
        outputs = {key: values for key, values in outputs.items() if key != manifest.outputs[0].name}
    if outputs:
        result["outputs"] = {key: np.asarray(values).tolist() for key, values in outputs.items()}
    return result


def _line(result: dict[str, Any]) -> str:
    """One tab-separated line: the file, each class with its probability, each other output."""
    cells = [result["input"]]
    for entry in result.get("top", ()):
        value = entry["probability"] if "probability" in entry else entry["score"]
        cells += [entry["label"], f"{value:.4f}" if "probability" in entry else f"score {value:.4f}"]
    outputs = result.get("outputs", {})
    named = len(outputs) > 1 or "top" in result
    return "\t".join([*cells, *((f"{key}=" if named else "") + _values(v) for key, v in outputs.items())])


def _values(values: Any) -> str:
    import numpy as np

    array = np.asarray(values)
    if array.size > SHOWN_VALUES:
        return f"{list(array.shape)} from {array.min():.6g} to {array.max():.6g}"
    return " ".join(f"{value:.6g}" for value in array.ravel())


def _verify(options: argparse.Namespace) -> None:
    from edge.answer import outside, replay
    from edge.engines import predict
    from edge.errors import CheckFailed

    bundle, signature = _trusted(options, options.bundle)
    engine = _open(bundle, options.threads)
    try:
        differences = replay(lambda feeds: predict(engine, feeds), bundle.golden, engine.inputs)
    finally:
        engine.close()
    allowed = bundle.manifest.tolerance
    failed = outside(differences, allowed)
    n = len(next(iter(bundle.golden.inputs.values())))
    if options.json:
        outputs = [
            {"output": name, "max_difference": _json_number(d), "tolerance": allowed[name], "ok": name not in failed}
            for name, d in differences.items()
        ]
        plain = {"bundle": str(options.bundle), "sha256": bundle.sha256, "signature": signature, "n": n}
        _print(json.dumps({**plain, "outputs": outputs, "ok": not failed}, indent=2))
    else:
        _print(f"{options.bundle}: signature {signature}")
        _print(f"{options.bundle}: {len(bundle.manifest.members)} members have their hashes")
        for name, difference in differences.items():
            verdict = "FAILED" if name in failed else "ok"
            _print(f"{name}: max difference {difference:.3g} on {n} vectors, {allowed[name]:.3g} allowed: {verdict}")
    if failed:
        name = failed[0]
        raise CheckFailed(
            f"{options.bundle}: output {name!r} differs by {differences[name]:.3g}, {allowed[name]:.3g} is allowed",
            "this runtime computes otherwise than the one that made the bundle: `info` shows its versions",
        )


def _json_number(value: float) -> "float | None":
    return value if abs(value) < float("inf") else None  # JSON has no NaN and no infinity


def _info(options: argparse.Namespace) -> None:
    import dataclasses

    bundle, signature = _trusted(options, options.bundle)
    manifest, size = bundle.manifest, options.bundle.stat().st_size
    if options.json:
        plain = {"bundle": str(options.bundle), "sha256": bundle.sha256, "size_bytes": size}
        _print(json.dumps({**plain, "manifest": dataclasses.asdict(manifest)}, indent=2))
        return
    rows = [
        ("name", manifest.name),
        ("task", manifest.task),
        ("target", manifest.target),
        ("format", f"{manifest.format}, {len(bundle.model)} bytes ({size} with the bundle)"),
        ("sha256", bundle.sha256),
        *(("input", f"{_tensor(spec)} <- {_step(manifest.preprocess[spec.name])}") for spec in manifest.inputs),
        *(("output", _tensor(spec)) for spec in manifest.outputs),
        ("labels", ", ".join(manifest.labels) or "none"),
        ("steps", " -> ".join(manifest.steps) or "none"),
        ("made with", ", ".join(f"{key} {value}" for key, value in manifest.versions.items()) or "not stated"),
        ("golden", f"{len(next(iter(bundle.golden.inputs.values())))} vectors"),
        *(("threshold", f"{key} {value:g}") for key, value in manifest.thresholds.items()),
        ("needs", ", ".join(manifest.requires) or "not stated"),
        ("inside", ", ".join(bundle.documents) or "no documents"),
        ("signature", signature),
    ]
    for key, value in rows:
        _print(f"{key:<10}{value}")


def _tensor(spec: "TensorSpec") -> str:
    from edge.engines.feeds import readable

    return f"{spec.name} {readable(spec.shape)} {spec.dtype}"


def _step(plain: dict[str, Any]) -> str:
    fields = ", ".join(f"{key}={_short(value)}" for key, value in plain.items() if key != "kind")
    return f"{plain['kind']}({fields})"


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)) and len(value) > 4:
        return f"[{value[0]}, … {len(value)} in all]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _bench(options: argparse.Namespace) -> None:
    import tempfile

    from edge.errors import BadInput

    suffix = options.model.suffix.lower()
    if not options.model.is_file():
        raise BadInput(f"there is no file {options.model}")
    if suffix in {".tflite", ".onnx"}:
        _time(options, options.model, suffix[1:])
    elif suffix == ".edge":
        bundle, _ = _trusted(options, options.model)
        with tempfile.TemporaryDirectory() as folder:  # the worker gets the bytes that were checked
            model = Path(folder) / bundle.manifest.model
            model.write_bytes(bundle.model)
            _time(options, model, bundle.manifest.format)
    else:
        raise BadInput(f"{options.model} cannot be timed", "give an .edge, .tflite or .onnx file")


def _time(options: argparse.Namespace, model: Path, model_format: str) -> None:
    from edge.bench import bench_device, check_placement
    from edge.errors import BadRecipe

    if options.seconds > 2:
        sys.stderr.write(f"measuring for {options.seconds:g} s\n")
    settings = {}
    for told in options.set:
        key, equals, value = told.partition("=")
        if not key or not equals:
            raise BadRecipe(f"--set {told} is not KEY=VALUE", "for example --set fp16=true")
        settings[key] = value
    found = bench_device(
        model,
        model_format,
        name=str(options.model),
        threads=options.threads,
        delegate=options.delegate,
        settings=settings,
        seconds=options.seconds,
        launches=options.launches,
        samples=options.samples,
    )
    _print(found.as_json() if options.json else found.as_text())
    if options.delegate != "cpu":
        check_placement(found, tuple(options.allow_fallback.split(",")))


def _update(options: argparse.Namespace) -> None:
    import dataclasses

    from edge.artifact import sha256_of
    from edge.errors import BadInput
    from edge.trust.update import Channel, Updates

    updates = Updates(Channel(options.channel, options.root, options.state, options.device))
    offer = updates.latest(options.name)
    if offer is None:
        raise BadInput(f"the channel has no {options.name!r} for {options.device}", "edgetool channel show lists it")
    fresh = not options.out.is_file() or sha256_of(options.out) != offer.sha256
    if fresh:
        updates.download(offer, options.out)
    if options.json:
        _print(json.dumps({**dataclasses.asdict(offer), "file": str(options.out), "fetched": fresh}, indent=2))
    else:
        _print(f"{options.out}: release {offer.release}, {'fetched' if fresh else 'there already'}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
