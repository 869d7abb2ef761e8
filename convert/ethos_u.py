"""A quantized .tflite compiled for an Arm Ethos-U NPU by Vela, with Vela's estimate of what it costs there.

Vela's figures come from its model of the NPU, not from a run: they are estimates and carry that word. The compiled
file holds the custom operation `ethos-u`, which no CPU runs, so its numerics are verified on the file it came from.
"""

import csv
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from convert.flatbuffer import read_flatbuffer
from convert.operations import count_operations
from edge.errors import BadModel, BadRecipe, EnvironmentFailed, RuntimeMissing, UnknownName
from edge.probe import versions
from edge.report import FallbackOp

CONFIGURATIONS = "Arm/vela.ini"  # ships with Vela
CUSTOM_OPERATION = "ethos-u"
FAMILIES = ("ethos-u55", "ethos-u65", "ethos-u85")  # by their number in a command stream
KIB = 1024
LIMIT_S = 300.0

_REASON = re.compile(r"^Warning \(supported operators\) operator: (\w+),[^\n]*\nReason: ([^\n]+)", re.MULTILINE)


@dataclass(frozen=True)
class System:
    """What surrounds the NPU: clock, bandwidths and memories, as two sections of Vela's configuration file."""

    system_config: str
    memory_mode: str


# Per family the section that Vela's own default stands for; passed and reported all the same, since the figures mean
# nothing without it.
SYSTEMS = {
    "ethos-u55": System("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": System("Ethos_U65_High_End", "Dedicated_Sram"),
    "ethos-u85": System("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}
ACCELERATORS = {  # by multiply-accumulates per cycle
    f"{family}-{macs}": system
    for family, sizes in {
        "ethos-u55": (32, 64, 128, 256),
        "ethos-u65": (256, 512),
        "ethos-u85": (128, 256, 512, 1024, 2048),
    }.items()
    for macs in sizes
    for system in [SYSTEMS[family]]
}


@dataclass(frozen=True)
class EthosUEstimate:
    """What Vela says about one model on one NPU; `sram_bytes`, `dram_bytes` and `flash_bytes` are used there.

    `cycles` and `time_ms` are of one inference at `clock_hz`, of the NPU alone: operations that stay on the CPU
    (`fallback_ops`) are not in them.
    """

    accelerator: str
    system_config: str
    memory_mode: str
    clock_hz: float
    cycles: int
    time_ms: float
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    ops_offloaded: int
    ops_total: int
    fallback_ops: tuple[FallbackOp, ...]
    compiler: str
    status: Literal["estimated"] = "estimated"

    def as_text(self) -> str:
        """One sentence a figure; every one is an estimate, and says so."""
        where = f"{self.system_config}, {self.memory_mode} ({self.compiler})"
        lines = [
            f"{self.accelerator}, {self.clock_hz / 1e6:g} MHz, {where}",
            f"estimated: {self.cycles:,} cycles, {self.time_ms:.3f} ms on the NPU",
            f"estimated: {self.sram_bytes:,} bytes of SRAM, {self.dram_bytes:,} of DRAM, {self.flash_bytes:,} of flash",
            f"{self.ops_offloaded} of {self.ops_total} operations on the NPU",
        ]
        counted = Counter(self.fallback_ops)
        return "\n".join([*lines, *(f"on the CPU: {n} {one.op}: {one.reason}" for one, n in counted.items())])


def compile_for_ethos_u(
    model: Path,
    accelerator: str = "ethos-u55-128",
    *,
    system_config: str | None = None,
    memory_mode: str | None = None,
    limit_s: float = LIMIT_S,
) -> tuple[bytes, EthosUEstimate]:
    """The compiled .tflite, and what Vela estimates.

    Raises:
        UnknownName: no such accelerator.
        BadModel: Vela does not take the model, or nothing of it runs on the NPU.
        BadRecipe: a system configuration or memory mode that Vela refuses.
        RuntimeMissing: Vela is not installed.
        EnvironmentFailed: Vela did not end within the limit.

    """
    if accelerator not in ACCELERATORS:
        raise UnknownName("Ethos-U accelerator", accelerator, ACCELERATORS)
    if find_spec("ethosu") is None:
        raise RuntimeMissing("Vela, Arm's compiler for Ethos-U, is not installed", "pip install 'edgetool[ethos-u]'")
    source = count_operations(read_flatbuffer(model))
    if CUSTOM_OPERATION in source:
        raise BadModel(f"{model} is compiled for an Ethos-U already", "give the .tflite that it was compiled from")
    default = ACCELERATORS[accelerator]
    system = System(system_config or default.system_config, memory_mode or default.memory_mode)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        said = _vela(model.absolute(), accelerator, system, folder, limit_s)
        compiled = _only(folder, "*_vela.tflite", model)
        with _only(folder, "*_summary_*.csv", model).open(newline="") as table:
            figures = next(csv.DictReader(table))
        rest = count_operations(read_flatbuffer(compiled))
        content = compiled.read_bytes()
    if rest.pop(CUSTOM_OPERATION, 0) == 0:
        raise BadModel(
            f"nothing of {model} runs on {accelerator}: {_first_reason(said)}",
            "an Ethos-U takes int8 or int16x8 models: quantize it first (--precision int8)",
        )
    reasons = dict(_REASON.findall(said))
    fallback = tuple(
        FallbackOp(op, f"{reasons.get(op, 'Vela gives no reason')}; runs on the CPU")
        for op, number in sorted(rest.items())
        for _ in range(number)
    )
    total = sum(source.values())
    return content, EthosUEstimate(
        accelerator=accelerator,
        system_config=figures["system_config"],
        memory_mode=figures["memory_mode"],
        clock_hz=float(figures["core_clock"]),
        cycles=round(float(figures["cycles_total"])),
        time_ms=float(figures["inference_time"]) * 1e3,
        sram_bytes=_bytes(figures, "sram"),
        dram_bytes=_bytes(figures, "dram"),
        flash_bytes=_bytes(figures, "on_chip_flash") + _bytes(figures, "off_chip_flash"),
        # a CPU operation of the compiled file may be one that Vela added: it never counts as taken
        ops_offloaded=max(0, total - len(fallback)),
        ops_total=total,
        fallback_ops=fallback,
        compiler=f"Vela {versions(['ethos-u-vela'])['ethos-u-vela']}",
    )


def _vela(model: Path, accelerator: str, system: System, folder: Path, limit_s: float) -> str:
    """What Vela wrote. It starts in an empty folder: `-m` looks for modules where it starts."""
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "ethosu.vela", str(model),
                "--accelerator-config", accelerator,
                "--config", CONFIGURATIONS,
                "--system-config", system.system_config,
                "--memory-mode", system.memory_mode,
                "--output-dir", str(folder),
            ],
            capture_output=True, text=True, errors="replace", cwd=folder, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"Vela did not end within {limit_s:g} s while compiling {model.name}") from None
    said = done.stdout + done.stderr
    if done.returncode != 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()] or [f"it ended with {done.returncode}"]
        last = lines[-1].rpartition("Error: ")[2].strip("'\"")
        if "ConfigOptionError" in lines[-1] or "config" in last.lower():
            raise BadRecipe(
                f"Vela does not take {system.system_config} with {system.memory_mode} for {accelerator}: {last[:300]}",
                "`vela --list-configs Arm/vela.ini` lists them",
            )
        raise BadModel(f"Vela cannot compile {model.name}: {last[:300]}")
    return said


def _only(folder: Path, pattern: str, model: Path) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise BadModel(f"Vela wrote no {pattern.strip('*')} for {model.name}")
    return found[0]


def _bytes(figures: dict[str, str], memory: str) -> int:
    return round(float(figures[f"{memory}_memory_used"]) * KIB)


def _first_reason(said: str) -> str:
    found = _REASON.search(said)
    return f"{found[1]}: {found[2]}" if found else "Vela gives no reason"


def configuration_of(model: Path) -> str | None:
    """Vela's name of the accelerator that a compiled .tflite is for; None where the file does not tell.

    The command stream begins with "COP1", the optimizer's configuration, and the accelerator's: its product in the
    highest four bits, the logarithm of its multipliers in the lowest (Arm's ethos-u-core-driver, ethosu_config_r).
    """
    content = read_flatbuffer(model)
    for graph in content.subgraphs:
        for operator in graph.operators if graph.operators is not None else ():
            if content.operatorCodes[operator.opcodeIndex].customCode != CUSTOM_OPERATION.encode():
                continue
            data = content.buffers[graph.tensors[operator.inputs[0]].buffer].data
            head = b"" if data is None else bytes(data[:12])
            if len(head) == 12 and head[:4] == b"COP1":
                word = int.from_bytes(head[8:], "little")
                family = word >> 28
                return f"{FAMILIES[family]}-{1 << (word & 0xF)}" if family < len(FAMILIES) else None
    return None
