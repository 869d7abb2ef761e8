"""Distillation: a smaller model learns from the one that came in, or from teachers that the recipe names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.recovery import loss_of
from edgetool.passes.step import KEPT, TRAINABLE, PassResult, all_positive, label, needed, positive, write_keras
from edgetool.progress import At
from edgetool.task import Task

if TYPE_CHECKING:
    from compress.training import Objective


@dataclass(frozen=True)
class Asked:
    """What an objective is made from: the model that learns, whom it may ask, and where answers are kept."""

    student: Any
    teachers: tuple[Path, ...]
    task: Task
    folder: Path
    seed: int
    trust: bool
    progress: At


@dataclass(frozen=True)
class Taught:
    """A fit in which a model learns from teachers.

    `teachers`: model files of any format; none is the model that came in.

    `student`: a .keras file; none is the model that came in with `width` times the channels, untrained (1.0: itself).
    `label_weight` is the part of the loss that the labels keep.
    """

    name: ClassVar[str]
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    teachers: tuple[str, ...] = ()
    student: str = ""
    width: float = 0.5
    label_weight: float = 0.3
    epochs: int = 10
    learning_rate: float = 3e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        all_positive(self, "epochs", "learning_rate", "batch_size")
        if not 0 < self.width <= 1:
            raise BadRecipe(f"{self.name}: width must be above 0 and at most 1, not {self.width}")
        if not 0 <= self.label_weight <= 1:
            raise BadRecipe(f"{self.name}: label_weight must be from 0 to 1, not {self.label_weight}")
        for path in self.reads:
            if not path.exists():
                raise BadRecipe(f"{self.name}: there is no model {path}", "paths are beside the recipe")

    @property
    def reads(self) -> tuple[Path, ...]:
        """The files beside the model that the result depends on."""
        return tuple(Path(name) for name in (*self.teachers, self.student) if name)

    def learner(self, artifact: Artifact, seed: int, trust: bool) -> Any:
        """The model that is trained."""
        from compress.distill.narrow import narrow
        from convert.load import load_keras

        if self.student:
            return load_keras(Path(self.student), trust=trust)
        source = load_keras(artifact.path, trust=trust)
        return source if self.width == 1 else narrow(source, self.width, seed)


@dataclass(frozen=True)
class Distill(Taught, ABC):
    """Distillation by one objective beside the labels."""

    def produces(self, source: Format) -> Format:
        return "keras"

    @abstractmethod
    def objective(self, asked: Asked) -> "tuple[Objective, Mapping[str, Any]]":
        """The term of the loss, and what it compares with."""

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.training import FineTune, check_model
        from edgetool.passes.fitting import fit_task

        task = needed(task, self.name)
        student = self.learner(artifact, seed, trust)
        check_model(student)
        teachers = tuple(Path(name) for name in self.teachers) or (artifact.path,)
        objective, targets = self.objective(Asked(student, teachers, task, workdir / KEPT, seed, trust, progress))
        settings = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        fit_task(
            student, task, settings, workdir, progress, "distilling",
            objectives=[objective], targets=targets, label_weight=self.label_weight,
        )  # fmt: skip
        made = write_keras(student, artifact, workdir, label(self), trust=trust)
        return PassResult(made)


@dataclass(frozen=True)
class DistillLogits(Distill):
    """A smaller model learns the softened outputs of its teachers; buys time and bytes by its size."""

    name: ClassVar[str] = "distill.logits"
    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.name, "temperature", self.temperature)

    def objective(self, asked: Asked) -> "tuple[Objective, Mapping[str, Any]]":
        from compress.distill.logits import TARGET, LogitsObjective, form_of, logits_of, soft_labels
        from compress.training import output_kind
        from edgetool.passes.teacher import teacher_says

        form = form_of(loss_of(asked.task), output_kind(asked.student), asked.student.outputs[0].shape[-1])
        said = [
            teacher_says(path, asked.task, asked.folder, asked.progress, trust=asked.trust) for path in asked.teachers
        ]
        soft = soft_labels([logits_of(outputs, form) for outputs in said], form, self.temperature)
        wanted = asked.student.outputs[0].shape[1:]
        if soft.size != asked.task.train.n * np.prod(wanted):
            raise BadRecipe(f"{self.name}: the teacher gives {list(soft.shape[1:])}, the student {list(wanted)}")
        weight = 1 - self.label_weight
        return LogitsObjective(form, self.temperature, weight), {TARGET: np.asarray(soft, np.float32)}


@dataclass(frozen=True)
class DistillHints(Distill):
    """A layer of a smaller model learns what a layer of its teacher gives; buys time and bytes by its size.

    `layer` of the (Keras) teacher; `student_layer` where the student's has another name.
    """

    name: ClassVar[str] = "distill.hints"
    layer: str = ""
    student_layer: str = ""
    weight: float = 1.0
    label_weight: float = 1.0

    def objective(self, asked: Asked) -> "tuple[Objective, Mapping[str, Any]]":
        from compress.distill.hints import TARGET, HintObjective
        from edgetool.passes.teacher import teacher_says

        guided = self.student_layer or self.layer or _last_feature(asked.student)
        said = teacher_says(
            _only(self.name, asked), asked.task, asked.folder, asked.progress,
            layer=self.layer or guided, trust=asked.trust,
        )  # fmt: skip
        return HintObjective(guided, said.shape[1:], self.weight, asked.seed), {TARGET: said}


@dataclass(frozen=True)
class DistillRelational(Distill):
    """Embeddings of a smaller model lie to one another as its teacher's do; buys time and bytes by its size.

    `layer` is the embedding of a Keras teacher and of the student (`student_layer` where it has another name).
    """

    name: ClassVar[str] = "distill.relational"
    layer: str = ""
    student_layer: str = ""
    distance: float = 1.0
    angle: float = 2.0
    weight: float = 1.0
    label_weight: float = 1.0

    def objective(self, asked: Asked) -> "tuple[Objective, Mapping[str, Any]]":
        from compress.distill.relational import TARGET, RelationalObjective
        from edgetool.passes.teacher import teacher_says

        said = teacher_says(
            _only(self.name, asked), asked.task, asked.folder, asked.progress, layer=self.layer, trust=asked.trust
        )
        embedding = self.student_layer or self.layer or None
        return RelationalObjective(self.distance, self.angle, embedding, self.weight), {TARGET: said}


def _only(name: str, asked: Asked) -> Path:
    if len(asked.teachers) != 1:
        raise BadRecipe(f"{name} learns from one teacher, not {len(asked.teachers)}", "distill.logits takes several")
    return asked.teachers[0]


def _last_feature(student: Any) -> str:
    """The layer before the one that makes the output."""
    names = [layer.name for layer in student.layers]
    if len(names) < 3:
        raise BadRecipe("distill.hints: the student has no layer before its output", 'name one: layer = "…"')
    return str(names[-2])
