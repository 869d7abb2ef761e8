"""Pruning, quantization-aware training and distillation in one fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge.artifact import Artifact, Format
from edge.errors import BadModel, BadRecipe, UnknownName
from edgetool.passes.distillation import Asked, Taught
from edgetool.passes.learned_steps import twin
from edgetool.passes.step import KEPT, PassResult, calibration_samples, label, needed, write_keras
from edgetool.progress import At
from edgetool.task import Task

if TYPE_CHECKING:
    from compress.quantize.lsq.graph import Graph
    from compress.training import Objective, WeightTransform
    from edgetool.passes.step import Pass

TRANSFORMS = ("prune.magnitude", "prune.nm", "prune.block", "quantize.lsq")
LOSSES = ("distill.logits", "distill.hints", "distill.relational")
# What the one fit decides, so that a part cannot.
OF_THE_FIT = ("epochs", "learning_rate", "batch_size", "teachers", "student", "width", "label_weight")


@dataclass(frozen=True)
class Joint(Taught):
    """Weight transforms and losses of other passes in one fit: pruning, int8 and distillation learn of one another.

    `transforms` and `losses` are those passes with their settings. `freeze` are layers that stay as they are; with
    `new_head` the layers that make the output start anew (transfer). Without losses the labels alone are learned.
    """

    name: ClassVar[str] = "train.joint"
    parts: ClassVar[tuple[str, ...]] = ("transforms", "losses")
    transforms: tuple[dict[str, Any], ...] = ()
    losses: tuple[dict[str, Any], ...] = ()
    freeze: tuple[str, ...] = ()
    new_head: bool = False
    width: float = 1.0
    epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = [_part(self.name, "transforms", one, TRANSFORMS) for one in self.transforms]
        for one in self.losses:
            _part(self.name, "losses", one, LOSSES)
        if any(step.name == "quantize.lsq" for step in steps[:-1]):
            raise BadRecipe(f"{self.name}: quantize.lsq rounds what the other transforms leave", "name it last, once")

    @property
    def quantizes(self) -> bool:
        """Whether an integer model comes out."""
        return any(one["name"] == "quantize.lsq" for one in self.transforms)

    def produces(self, source: Format) -> Format:
        return self._integer_form(source) if self.quantizes else "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.training import FineTune, check_model
        from edgetool.passes.fitting import fit_task

        task = needed(task, self.name)
        student = self.learner(artifact, seed, trust)
        prepare(student, self.freeze, self.new_head, seed)
        check_model(student)
        model, graph = student, None
        if self.quantizes:
            model, graph = _fake_quantized(student, artifact, task, self.transforms[-1], seed)
        teachers = tuple(Path(name) for name in self.teachers) or (artifact.path,)
        asked = Asked(model, teachers, task, workdir / KEPT, seed, trust, progress)
        terms = [self._objective(one, asked) for one in self.losses]
        settings = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        summary = fit_task(
            model, task, settings, workdir, progress, "training",
            transforms=[_transform(one) for one in self.transforms if one["name"] != "quantize.lsq"],
            objectives=[term for term, _ in terms],
            targets={name: values for _, targets in terms for name, values in targets.items()},
            label_weight=self.label_weight if terms else 1.0,
            start_counts=not self.new_head,
        )  # fmt: skip
        skipped = tuple(entry for one in summary.transforms for entry in one.skipped)
        if graph is not None:
            step: Any = _part(self.name, "transforms", self.transforms[-1], TRANSFORMS)
            written = step.write(model, graph, artifact, task, workdir, label(self))
            return PassResult(written.artifact, (*skipped, *written.skipped))
        for layer in student.layers:
            layer.trainable = True  # frozen for this fit, not for those after it
        made = write_keras(student, artifact, workdir, label(self), trust=trust)
        return PassResult(made, skipped)

    def _integer_form(self, source: Format) -> Format:
        return _part(self.name, "transforms", self.transforms[-1], TRANSFORMS).produces(source)

    def _objective(self, part: Mapping[str, Any], asked: Asked) -> "tuple[Objective, Mapping[str, Any]]":
        step: Any = _part(self.name, "losses", {**part}, LOSSES)
        return replace(step, label_weight=self.label_weight).objective(asked)  # type: ignore[no-any-return]  # any of three passes


def prepare(model: Any, freeze: tuple[str, ...], new_head: bool, seed: int) -> None:
    """Freeze layers by name, and give those that make the output fresh weights. Raises UnknownName."""
    from compress.distill.narrow import making_outputs, narrow

    names = {layer.name for layer in model.layers}
    for name in freeze:
        if name not in names:
            raise UnknownName(f"layer of model {model.name!r}", name, names)
        model.get_layer(name).trainable = False
    if new_head:
        fresh = narrow(model, 1.0, seed)
        for name in making_outputs(model):
            model.get_layer(name).set_weights(fresh.get_layer(name).get_weights())


def _part(name: str, key: str, given: Mapping[str, Any], known: tuple[str, ...]) -> "Pass":
    from edgetool.passes import pass_from_settings

    part = given.get("name")
    if not isinstance(part, str):
        raise BadRecipe(f"{name}: {given!r} in {key} has no name", f'for example {key} = [{{ name = "{known[0]}" }}]')
    if part not in known:
        raise UnknownName(f"part of {key} of {name}", part, known)
    for setting in given:
        if setting in OF_THE_FIT:
            raise BadRecipe(f"{name}: {setting} of {part} belongs to the fit", f"write it beside {key}")
    return pass_from_settings(part, {k: v for k, v in given.items() if k != "name"})


def _transform(part: Mapping[str, Any]) -> "WeightTransform":
    step: Any = _part(Joint.name, "transforms", part, TRANSFORMS)
    made: WeightTransform = step.pruner()
    return made


def _fake_quantized(
    student: Any, artifact: Artifact, task: Task, part: Mapping[str, Any], seed: int
) -> "tuple[Any, Graph]":
    if len(artifact.outputs) != 1:
        raise BadModel(f"{artifact.path} has {len(artifact.outputs)} outputs; train.joint takes one")
    step: Any = _part(Joint.name, "transforms", part, TRANSFORMS)
    return twin(student, artifact, calibration_samples(task, step.samples, seed)())
