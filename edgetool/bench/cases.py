"""Which model runs where: models times delegates times thread counts, from what the user asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.delegates import DEFAULT, DEFAULTS, DELEGATES, Delegate, find_delegate
from edge.errors import BadRecipe, UnknownName
from edge.report import Skipped
from edge.settings import parse_settings
from edgetool.bench.subjects import Subject

ALL = "all"


@dataclass(frozen=True)
class Case:
    """One row to come. `asked` says that the delegate was named: then its absence is a failure; `strict` that all
    operations have to run on it.
    """

    subject: Subject
    delegate: Delegate
    threads: int
    settings: Mapping[str, str]
    asked: bool
    strict: bool

    @property
    def id(self) -> str:
        """The row's name in a race and in messages."""
        many = "" if self.threads == 1 else "s"
        return f"{self.subject.name} on {self.delegate.name}, {self.threads} thread{many}"

    @property
    def is_reference(self) -> bool:
        """Whether this is the CPU, which the others are compared with."""
        return self.delegate.name == reference_name(self.subject.model.format)


def reference_name(model_format: str) -> str:
    """The delegate that says what is right for models of a format: its engine's CPU."""
    return DEFAULTS[model_format]


def cases(
    subjects: Sequence[Subject], delegates: Sequence[str], settings: Mapping[str, str], threads: Sequence[int]
) -> tuple[tuple[Case, ...], tuple[Skipped, ...]]:
    """All rows, the CPU's first for each model and thread count, and what a model's format does not have.

    No delegate is the CPU alone; `all` is every one of the model's format. Settings go to the named delegates that
    have them.

    Raises:
        UnknownName: no model has a delegate of that name, or no named delegate has that setting.
        BadRecipe: a setting's value cannot be read, or settings without a delegate that takes them.

    """
    found: list[Case] = []
    skipped: list[Skipped] = []
    names = [name for name in dict.fromkeys(delegates) if name != ALL]
    for name in names:
        _require_some(name, subjects)
    told = _told(subjects, names, settings)
    for subject in subjects:
        known = of_format(subject.model.format)
        # name -> whether it was asked for; a compiled file runs on its accelerator alone
        chosen = {} if subject.compiled and names else {reference_name(subject.model.format): False}
        for name in names:
            try:
                delegate = _find(name, subject.model.format)
            except UnknownName as error:
                skipped.append(Skipped(f"{subject.name} on {name}", error.message))
                continue
            known.setdefault(delegate.name, delegate)
            chosen[delegate.name] = chosen.get(delegate.name, False) or name != DEFAULT
        if ALL in delegates:
            chosen = {**dict.fromkeys(known, False), **chosen}
        for count in threads:
            for name, asked in chosen.items():
                # the CPU is asked for as a whole: which of its kernels runs an operation is reported, not judged
                strict = asked or (ALL in delegates and known[name].unit != "cpu")
                found.append(Case(subject, known[name], count, told.get(name, {}), asked, strict))
    return tuple(found), tuple(skipped)


def of_format(model_format: str) -> dict[str, Delegate]:
    """The delegates of a format by name, the CPU first."""
    if model_format == "fake":
        from edge.engines.fake import DELEGATES as PLANTED

        return {name: _fake(name) for name in PLANTED}
    known = {one.name: one for one in DELEGATES.values() if one.format == model_format}
    first = reference_name(model_format)
    return {first: known[first], **known}


def _fake(name: str) -> Delegate:
    return Delegate(name, "fake", "fake", "cpu" if name == "cpu" else "npu", "the fake engine", "nothing", "is here")


def _find(name: str, model_format: str) -> Delegate:
    if model_format != "fake":
        return find_delegate(name, model_format)
    known = of_format("fake")
    if name not in known:
        raise UnknownName("delegate for .fake models", name, known)
    return known[name]


def _require_some(name: str, subjects: Sequence[Subject]) -> None:
    errors = []
    for subject in subjects:
        try:
            _find(name, subject.model.format)
        except UnknownName as error:
            errors.append(error)
    if len(errors) < len(subjects):
        return
    owners = sorted({one.format for one in DELEGATES.values() if one.name == name})
    if owners:
        formats = " and ".join(f".{one}" for one in owners)
        raise BadRecipe(
            f"{name} runs {formats} models, not {subjects[0].name}",
            f"convert it: edgetool convert {Path(subjects[0].model.file).name} --to {owners[0]}",
        )
    raise errors[0]


def _told(subjects: Sequence[Subject], names: Sequence[str], settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Which delegate is told what: every named one the settings that it has. All values are read once, here."""
    if not settings:
        return {}
    if not names:
        raise BadRecipe("--set tells a delegate something", "name it with --delegate")
    found: dict[str, dict[str, str]] = {}
    taken: set[str] = set()
    unknown: UnknownName | None = None
    for name in names:
        for model_format in {subject.model.format for subject in subjects}:
            try:
                delegate = _find(name, model_format)
            except UnknownName:
                continue
            if delegate.library is not None:
                found[delegate.name] = dict(settings)  # the library knows its settings, not we
                return found
            for key, value in settings.items():
                try:
                    parse_settings(delegate.settings, {key: value}, delegate.name)
                except UnknownName as error:
                    unknown = error
                    continue
                taken.add(key)
                found.setdefault(delegate.name, {})[key] = value
    if unknown is not None and taken != set(settings):
        raise unknown
    return found
