"""An ONNX Runtime session on the delegate that was asked for, with the record of where its nodes are."""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.delegates import Delegate
from edge.engines.compiled_cache import Entry, compiled
from edge.engines.native_log import NativeLog, native_log
from edge.engines.onnx_file import batch_symbols, compiled_for, external_locations, node_count
from edge.engines.providers import Attached, find_provider
from edge.engines.reason import one_line
from edge.errors import BadModel, CheckFailed, DelegateFailed, EdgetoolError
from edge.onnxruntime_settings import QNNSettings
from edge.report import FallbackOp, Placement, from_plain
from edge.settings import to_texts

# A small convolutional network that every provider takes: what it says of a delegate that took nothing of a model
PROBE = Path(__file__).resolve().parent.parent / "proof_models" / "conv.onnx"
COPY = re.compile(r"^Add Memcpy(?:FromHost|ToHost) ")
NOT_SELECTED = "was not selected by that EP"
NO_FALLBACK = "session.disable_cpu_ep_fallback"


@dataclass(frozen=True)
class OpenSession:
    """A session ready to run, and where its nodes are.

    `count_copies` says how many tensors one run copies between memories, where that takes another session to know.
    """

    session: Any
    placement: Placement
    count_copies: Callable[[], int] | None = None


class SessionMaker:
    """Makes the session of one model on one delegate."""

    def __init__(
        self,
        ort: Any,
        model: Path | bytes,
        content: memoryview,
        delegate: Delegate,
        settings: Any,
        threads: int,
        profile_to: Path | None,
    ) -> None:
        self._ort = ort
        self._model = model
        self._content = content
        self._title = model.name if isinstance(model, Path) else "the model"
        self._delegate = delegate
        self._settings = settings
        self._threads = threads
        self._profile_to = profile_to
        self._provider = find_provider(delegate.name)
        self._on_cpu = delegate.name == "cpu"
        # ONNX Runtime before 1.24 keeps no record; there a session may hold one provider only, or fail
        self._record = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")

    def open(self) -> OpenSession:
        """The session.

        Raises:
            BadModel: the runtime or the delegate does not take the model, or it was compiled for another one.
            RuntimeMissing: the delegate's package is not installed.
            DelegateFailed: the delegate cannot be used on this machine.
            CheckFailed: operations fell back, and this ONNX Runtime is too old to say which.

        """
        made_for = compiled_for(self._content)
        self._require_fit()
        if not getattr(self._settings, "cache", False) or made_for is not None:
            return self._create(None)
        folder = Path(self._settings.cache_folder) if self._settings.cache_folder else None
        with compiled(self._parts(), folder) as entry:
            return self._through(entry)

    def _through(self, entry: Entry) -> OpenSession:
        """From the entry where it is complete, else into it; an entry that cannot be used never costs the session."""
        opened = None
        if entry.complete:
            try:
                opened = self._create(entry)
            except EdgetoolError as error:
                entry.discard(f"the runtime refuses it ({error.message})")
        if opened is None:
            try:
                opened = self._create(entry)
            except BadModel as error:
                if entry.folder is None:
                    raise
                entry.give_up(error.message)
                opened = self._create(None)
        entry.seal({"placement": dataclasses.asdict(opened.placement)})
        return dataclasses.replace(opened, placement=dataclasses.replace(opened.placement, compiled=entry.story))

    def _create(self, entry: Entry | None) -> OpenSession:
        options = self._options()
        attached = self._provider.attach(self._ort, options, self._settings, self._threads, entry)
        if self._on_cpu:
            return self._on_the_cpu(options, attached)
        if self._profile_to is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self._profile_to)
        self._fix_batch(options)
        try:
            with native_log() as log:
                session = self._session(options, attached, attached.source or self._model)
        except Exception as error:  # noqa: BLE001  # the runtime's errors share no class but this
            raise self._refusal(error) from None
        placement = self._placement(session, attached, entry)
        if placement.ops_offloaded == 0 and (reason := self._fault(log)) is not None:
            raise DelegateFailed(f"{self._delegate.name} cannot be used here: {reason}", self._delegate.install)
        return OpenSession(session, placement, self._count_copies if self._copies_unknown(placement) else None)

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4 if self._on_cpu else 2
        # a spinning pool takes a core from whatever runs next on the machine
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return options

    def _on_the_cpu(self, options: Any, attached: Attached) -> OpenSession:
        if self._profile_to is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self._profile_to)
        source = str(self._model) if isinstance(self._model, Path) else self._model
        try:
            session = self._ort.InferenceSession(source, options, providers=list(attached.session), enable_fallback=0)
        except Exception as error:  # noqa: BLE001  # as above
            raise BadModel(f"ONNX Runtime cannot load {self._title}: {one_line(error)}") from None
        return OpenSession(session, self._placement(session, attached, None))

    def _session(self, options: Any, attached: Attached, model: Path | bytes) -> Any:
        providers = {"providers": list(attached.session)} if attached.session else {}
        if not self._record:
            options.add_session_config_entry(NO_FALLBACK, "1")
            providers = {"providers": list(attached.session[:1])} if attached.session else {}
        source = str(model) if isinstance(model, Path) else model
        return self._ort.InferenceSession(source, options, enable_fallback=0, **providers)

    def _placement(self, session: Any, attached: Attached, entry: Entry | None) -> Placement:
        """Where the session put every node of the graph, from the runtime's record."""
        found = Placement(
            self._delegate.name,
            self._delegate.name,
            0,
            0,
            emulated_by=attached.emulated_by,
            device=attached.device,
        )
        if not self._record:  # nothing else could run it: fallback is off, or there is one provider
            nodes = node_count(self._content)
            return dataclasses.replace(found, ops_offloaded=nodes, ops_total=nodes)
        parts = [(part.ep_name, part.get_nodes()) for part in session.get_provider_graph_assignment_info()]
        placed = Counter((provider, node.op_type) for provider, nodes in parts for node in nodes)
        taken = [len(nodes) for provider, nodes in parts if provider == attached.name]
        if attached.source is not None and entry is not None and taken:
            # one EPContext node stands for all that was compiled: the record of the build says what is in it
            built: Placement = from_plain(Placement, entry.notes["placement"])
            return dataclasses.replace(built, compiled=None)
        fallback = tuple(
            FallbackOp(op, f"{self._delegate.name} does not take it; it runs on {provider}")
            for (provider, op), n in placed.items()
            if provider != attached.name
            for _ in range(n)
        )
        return dataclasses.replace(
            found,
            actual=self._delegate.name if taken or not placed else "cpu",
            ops_offloaded=sum(taken),
            ops_total=sum(placed.values()),
            fallback_ops=fallback,
            partitions=self._partitions(taken, whole=not fallback),
            # one provider alone needs no copies, and some have the CPU's memory for theirs
            copies=None if self._on_cpu or (fallback and self._provider.own_memory) else 0,
        )

    def _count_copies(self) -> int:
        """The copies that the runtime adds between memories. It tells them in its log only, at a level at which some
        providers log every run too: so this is a session of its own, which is not run.
        """
        options = self._options()
        options.log_severity_level = 1
        attached = self._provider.attach(self._ort, options, self._settings, self._threads, None)
        self._fix_batch(options)
        with native_log() as log:
            self._session(options, attached, self._model)
        return sum(bool(COPY.match(line)) for line in log.lines("I"))

    def _copies_unknown(self, placement: Placement) -> bool:
        """Whether another session shall tell the copies: never where it would compile the model again."""
        return placement.copies is None and self._record and not self._provider.compiles

    def _fix_batch(self, options: Any) -> None:
        for symbol in batch_symbols(self._content):
            options.add_free_dimension_override_by_name(symbol, 1)  # a compiler wants to know every length

    def _partitions(self, taken: list[int], *, whole: bool) -> int | None:
        """The pieces that were compiled. A provider that runs node by node has a part for each, which tells nothing."""
        if self._on_cpu or not taken:
            return None if self._on_cpu else 0
        if whole:
            return 1
        return len(taken) if self._provider.compiles else None

    def _refusal(self, error: Exception) -> EdgetoolError:
        """Whose fault it is that there is no session: the file's, the delegate's, or only of both together."""
        reason = one_line(error)
        if compiled_for(self._content) is None:
            plain = self._ort.SessionOptions()
            plain.log_severity_level = 4
            plain.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            source = str(self._model) if isinstance(self._model, Path) else self._model
            try:
                self._ort.InferenceSession(source, plain, providers=["CPUExecutionProvider"], enable_fallback=0)
            except Exception as fault:  # noqa: BLE001  # as above
                return BadModel(f"ONNX Runtime cannot load {self._title}: {one_line(fault)}")
        absent = self._provider.why_absent(self._ort) or self._probe()
        if absent is not None:
            return DelegateFailed(f"{self._delegate.name} cannot be used here: {absent}", self._delegate.install)
        if not self._record and "fallback to CPU EP" in reason:
            return CheckFailed(
                f"{self._title} does not run on {self._delegate.name} alone, and ONNX Runtime "
                f"{self._ort.__version__} does not say which operations fell back",
                "ONNX Runtime 1.24 or newer names them",
            )
        return BadModel(f"{self._delegate.name} does not take {self._title}: {reason}")

    def _fault(self, log: NativeLog) -> str | None:
        """Why nothing at all ran on the delegate, where that is the delegate's fault and not the model's."""
        return self._provider.why_absent(self._ort) or (self._probe() if log.lines("E") else None)

    def _probe(self) -> str | None:
        """What the runtime says when the delegate is given a network that it must take; None where it takes it."""
        options = self._options()
        attached = self._provider.attach(self._ort, options, self._settings, self._threads, None)
        try:
            with native_log() as log:
                session = self._session(options, attached, PROBE)
        except Exception as error:  # noqa: BLE001  # as above
            # an old HTP refuses every float network, this one too: it is there, and no delegate's fault
            return None if NOT_SELECTED in str(error) else _first(log) or one_line(error)
        if not self._record:
            return None
        taken = {part.ep_name for part in session.get_provider_graph_assignment_info()}
        return None if attached.name in taken else _first(log)

    def _require_fit(self) -> None:
        """A compiled model runs on the provider, and the SoC, that it was compiled for."""
        made_for = compiled_for(self._content)
        if made_for is None:
            return
        wanted = {"qnn": "QNNExecutionProvider", "openvino": "OpenVINOExecutionProvider"}.get(self._delegate.name)
        if made_for.provider != wanted:
            raise BadModel(
                f"{self._title} is compiled for {made_for.provider}, and {self._delegate.name} is another",
                "use the model that it was compiled from",
            )
        told = self._settings.soc_id if isinstance(self._settings, QNNSettings) else 0
        if told and made_for.soc and told != made_for.soc:
            raise BadModel(
                f"{self._title} is compiled for the SoC {made_for.soc}, and this is {told}",
                f"edgetool convert MODEL.onnx --to qnn --soc {self._settings.soc_model} makes the one for it",
            )

    def _parts(self) -> Mapping[str, str]:
        """All that a compiled model depends on."""
        digest = hashlib.sha256(self._content)
        if isinstance(self._model, Path):
            for location in sorted(set(external_locations(self._content))):
                digest.update((self._model.parent / location).read_bytes())
        kept = {k: v for k, v in to_texts(self._settings).items() if k not in ("cache", "cache_folder")}
        return {
            "model": digest.hexdigest(),
            "delegate": self._delegate.name,
            "settings": repr(sorted(kept.items())),
            "threads": str(self._threads),
            "onnxruntime": self._ort.__version__,
            **self._provider.identity(self._ort),
        }


def _first(log: NativeLog) -> str | None:
    """The first error in the log: those after it follow from it."""
    errors = log.lines("E")
    return one_line(RuntimeError(errors[0])) if errors else None
