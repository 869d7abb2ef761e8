"""Time by operation for LiteRT, whose Python interface has no profiler: every operation timed as a model of its own.

That is another thing than a profile: an operation alone reads its inputs from cold memory, is not fused with its
neighbour, and pays for one call of the runtime; so the parts add up to more than the whole. Shares are comparable.
"""

from pathlib import Path
from typing import Any

import numpy as np

from compress.quantize.litert_compact import write_model
from convert.flatbuffer import read_flatbuffer
from edge.bench_report import OpTime, Profile
from edge.errors import EdgetoolError
from edge.runtime_process import RuntimeProcess

METHOD = (
    "derived: each operation timed alone as a model of its own, since LiteRT's Python interface has no profiler; "
    "unfused and with the cost of a call each"
)
CALLS = 200
LIMIT_S = 30.0


def time_alone(model: Path, threads: int, scratch: Path) -> Profile:
    """The operations of the main graph in their order, on XNNPACK where it takes them; scratch models go to a folder.

    Raises:
        BadModel: the file cannot be read.

    """
    count = len(read_flatbuffer(model).subgraphs[0].operators)
    timed: list[tuple[str, str, float]] = []
    left: list[str] = []
    with RuntimeProcess() as process:
        for index in range(count):
            path = scratch / f"op{index}.tflite"
            kind, name = write_alone(model, index, path)
            try:
                process.load(path, "tflite", threads=threads, limit_s=LIMIT_S)
                seconds = process.time(calls=CALLS, lead_in=20, limit_s=LIMIT_S)
                timed.append((kind, name, float(np.median(seconds)) * 1e6))
            except EdgetoolError:
                left.append(kind)  # an operation without inputs, or whose inputs are no numbers
    total = sum(us for _, _, us in timed)
    missing = f"; not timed: {', '.join(sorted(set(left)))}" if left else ""
    return Profile(METHOD + missing, total, tuple(OpTime(kind, name, us, us / total) for kind, name, us in timed))


def write_alone(model: Path, index: int, path: Path) -> tuple[str, str]:
    """Write operation `index` of a .tflite's main graph as a model of its own; its type and its first output's name."""
    whole = read_flatbuffer(model)  # anew: packing one operation empties the others' buffers
    named = _cut(whole, index)
    path.write_bytes(write_model(whole))
    return named


def _cut(model: Any, index: int) -> tuple[str, str]:
    """Leave nothing but operation `index` in a model; its type and the name of its first output."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    operator = graph.operators[index]
    kept = {int(i) for i in (*operator.inputs, *operator.outputs) if i >= 0}
    constant = {i for i in kept if _data(model, graph.tensors[i]) is not None}
    used = {graph.tensors[i].buffer for i in constant}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
    graph.operators = [operator]
    graph.inputs = np.array(sorted({int(i) for i in operator.inputs if i >= 0} - constant), np.int32)
    graph.outputs = np.array([int(i) for i in operator.outputs], np.int32)
    model.subgraphs, model.signatureDefs, model.metadata = [graph], None, None
    code = model.operatorCodes[operator.opcodeIndex]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    first = graph.tensors[int(operator.outputs[0])].name
    kind = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
    # the converter joins the names of everything that was fused
    return kind, (first.decode(errors="replace") if isinstance(first, bytes) else str(first)).partition(";")[0]


def _data(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None
