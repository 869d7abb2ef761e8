"""The peers and this toolkit, on the same models and data, judged by the same code.

    python -m benchmarks.peers                          all models and peers; installs the peers below out/peers
    python -m benchmarks.peers --models resnet8 --methods onnxruntime nncf.default
    python -m benchmarks.peers --post-training          leaves out all that trains, on either side
    python -m benchmarks.peers --slice                  one small model, ONNX Runtime as installed here; writes nothing

Models: the reference depthwise CNN of recipes/ and a ResNet-8 that is trained here, on the 10,000 test images of
Fashion-MNIST; MLPerf Tiny's keyword spotting on 39 words, clean and under noises that calibration did not hear, where
the shared data is at hand. Our side is the recipes of benchmarks/peers/recipes. A peer gets the float32 model, 512
training examples to calibrate on (the same as ours), and where it trains the training examples, as many epochs and the
learning rate that our recipes have. Files that were written are kept, so that a run that was interrupted goes on.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import RESULTS, Figure, read, write
from benchmarks.peers.catalogue import METHODS, Method, python_of, write_file
from benchmarks.peers.front import Outside
from benchmarks.peers.judge import COSTS, File, Judged, held_out, judge, peers_outside
from benchmarks.peers.models import OUT, files_for_peers, recipe_of, run_ours
from benchmarks.peers.page import page_tables
from edge.artifact import Artifact
from edge.report import Skipped
from edgetool.verify.race import Settings

MODELS = ("fashion_mnist", "resnet8", "keywords")
TRAINED = ("fashion_mnist", "resnet8")  # 39 words are too few to train on
SLICE = ("onnxruntime.static", "onnxruntime.dynamic")
# the slice asks whether it works, not how fast
QUICK = Settings(blocks=2, block_seconds=0.005, max_warmup_seconds=0.05)


def compare(
    name: str,
    methods: Sequence[Method],
    out: Path,
    training: tuple[int, float] | None,
    resnet_epochs: int,
    examples: int | None,
    settings: Settings | None,
    *,
    here: bool,
) -> tuple[list[Judged], list[Skipped], dict[tuple[str, str], Outside]]:
    """One model: our files and the peers' made, judged, and held against each other."""
    recipe = recipe_of(name, resnet_epochs)
    ours = run_ours(recipe, out / "ours" / name, train=training is not None)
    given = files_for_peers(recipe, ours, {method.takes for method in methods}, out / "given" / name)
    floats = {kind: f"float32.{kind}" for kind in ours.floats}
    files = [File(floats[kind], "ours", artifact.path, kind) for kind, artifact in ours.floats.items()]
    files += [
        File(name_of(made.artifact), "ours", made.artifact.path, made.artifact.format) for made in ours.candidates
    ]
    skipped = list(ours.skipped)
    written = out / "files" / name
    written.mkdir(parents=True, exist_ok=True)
    for method in methods:
        if method.trains and (training is None or name not in TRAINED):
            continue
        path = written / f"{method.id}.{method.gives}"
        print(f"{name}: {method.id}", file=sys.stderr, flush=True)
        try:
            if not path.is_file():
                python = Path(sys.executable) if here else python_of(method.environment, out)
                write_file(method, python, given.files[method.takes], given.data, path, training or (0, 0.0))
        except RuntimeError as error:
            skipped.append(Skipped(method.id, str(error)))
            continue
        files.append(File(method.id, method.peer, path, method.gives))
    test = held_out(ours.task, examples)
    judged, failed = judge(files, floats, test, settings, out / "outputs" / name)
    return judged, [*skipped, *failed], peers_outside(judged, test)


def name_of(artifact: Artifact) -> str:
    """A file of ours by its format and the passes that made it, with their settings."""
    return f"ours.{artifact.format} {' > '.join(step for step in artifact.steps if step != 'convert.onnx')}"


def figures(
    model: str, judged: Sequence[Judged], skipped: Sequence[Skipped], found: dict[tuple[str, str], Outside]
) -> list[Figure]:
    """What each file is, then what of the peers' lies outside our front and how far."""
    result = []
    if judged:
        result.append(Figure(f"{model}.test_examples", "reported", len(judged[0].outputs), "", None, True))
    for one in judged:
        low, high = one.accuracy_ci95
        name = f"{model}.{one.file.id}"
        result += [
            Figure(f"{name}.accuracy", "reported", 100 * one.accuracy, "%", (100 * low, 100 * high), True),
            Figure(f"{name}.bytes", "reported", one.size_bytes, "bytes", None, True),
            Figure(f"{name}.gzip", "reported", one.gzip_bytes, "bytes", None, True),
        ]
        if one.time is not None:
            result.append(Figure(f"{name}.time", "reported", one.time, "of float32", one.time_ci95, True))
    result += [Figure(f"{model}.{one.what}: {one.reason}", "made", None, "", None, False) for one in skipped]
    for cost in COSTS:
        known = cost != "time" or any(one.launches for one in judged)
        count = sum(1 for _, kind in found if kind == cost) if known else None
        result.append(Figure(f"{model}.peers_outside.{cost}", "== 0", count, "files", None, count == 0))
    for (peer, cost), lack in found.items():
        name = f"{model}.{peer}.outside.{cost}"
        if (near := lack.most_accurate) is not None:
            result.append(Figure(f"{name}.gap: {near.ours}", "<= 0", near.gap, "points", near.gap_ci95, False))
        if (near := lack.cheapest) is not None:
            result.append(Figure(f"{name}.ratio: {near.ours}", "<= 1", near.cost, "x", near.cost_ci95, False))
        if lack.most_accurate is lack.cheapest is None:
            result.append(Figure(f"{name}: no file of ours is as accurate or as cheap", "none", None, "", None, False))
    return result


def main() -> int:
    """Run from the command line; 1 where a peer lies outside."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--methods", nargs="+", help="peers or peer.method; default: all", default=[])
    parser.add_argument("--post-training", action="store_true")
    parser.add_argument("--epochs", type=int, default=1, help="of peers that train")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--test-examples", type=int, help="only the first ones")
    parser.add_argument("--no-race", action="store_true", help="no time is measured")
    parser.add_argument("--resnet-epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--slice", action="store_true")
    options = parser.parse_args()
    wanted = SLICE if options.slice else options.methods
    methods = [one for one in METHODS if not wanted or one.id in wanted or one.peer in wanted]
    training = None if options.post_training else (options.epochs, options.learning_rate)
    examples = 100 if options.slice else options.test_examples
    settings = QUICK if options.slice else None if options.no_race else Settings()
    all_figures: list[Figure] = []
    outside = 0
    for name in ("slice",) if options.slice else options.models:
        judged, skipped, found = compare(
            name, methods, options.out, training, options.resnet_epochs, examples, settings, here=options.slice
        )
        all_figures += figures(name, judged, skipped, found)
        print(f"\n{name}\n\n{page_tables(name, all_figures)}", flush=True)
        outside += len(found)
        if not options.slice:
            _save(all_figures, options.models)
    return 1 if outside and not options.slice else 0


def _save(all_figures: Sequence[Figure], models: Sequence[str]) -> None:
    """Written after each model; models of an earlier run that this one was not asked for are kept."""
    kept = [
        figure
        for program, figure in (read() if (RESULTS / "peers.json").is_file() else [])
        if program == "peers" and figure.name.split(".")[0] not in models
    ]
    write("peers", shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]), [*kept, *all_figures])


if __name__ == "__main__":
    sys.exit(main())
