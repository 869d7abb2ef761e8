"""The peers, in one literal table: what is installed, which program runs there, on which file of the model."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROGRAMS = Path(__file__).parent / "programs"
# A trained peer takes some minutes an epoch on a busy machine; one that takes hours hangs.
LIMIT_S = 7200.0


@dataclass(frozen=True)
class Environment:
    """A virtual environment: the packages, by exact version where they are what is measured."""

    name: str
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """One file that a peer can write. `takes` is the form of the float model that it is given."""

    peer: str
    name: str
    environment: Environment
    program: str
    takes: Literal["onnx", "tflite", "h5"]
    gives: Literal["onnx", "tflite"]
    trains: bool = False

    @property
    def id(self) -> str:
        """Its name in the figures."""
        return f"{self.peer}.{self.name}"


ONNXRUNTIME = Environment("onnxruntime", ("onnxruntime==1.31.1", "onnx==1.23.2", "onnx-ir==1.1.0"))
AI_EDGE = Environment("ai-edge-quantizer", ("ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"))
NNCF = Environment("nncf", ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.31.1"))
TENSORFLOW = Environment(
    "tensorflow", ("tensorflow==2.21.0", "tf-keras==2.21.0", "tensorflow-model-optimization==0.8.1")
)
# Olive imports requests without asking for it; the +cpu build of torch is a twentieth of the other's size.
OLIVE = Environment("olive", ("olive-ai==0.13.0", "requests", "torch==2.13.0+cpu", "onnxruntime==1.31.1"))

METHODS = (
    *(
        Method("onnxruntime", name, ONNXRUNTIME, "onnxruntime_tools", "onnx", "onnx")
        for name in ("static", "static_x86", "static_entropy", "dynamic")
    ),
    *(Method("nncf", name, NNCF, "nncf_tools", "onnx", "onnx") for name in ("default", "accurate")),
    *(Method("olive", name, OLIVE, "olive_tools", "onnx", "onnx") for name in ("static", "dynamic")),
    *(
        Method("ai_edge_quantizer", name, AI_EDGE, "ai_edge_quantizer_tools", "tflite", "tflite")
        for name in ("dynamic_wi8_afp32", "weight_only_wi8_afp32", "dynamic_wi4_afp32", "static_wi8_ai8")
    ),
    *(
        Method("litert_converter", name, TENSORFLOW, "tensorflow_tools", "h5", "tflite")
        for name in ("float16", "dynamic", "int8")
    ),
    *(
        Method("tfmot", name, TENSORFLOW, "tensorflow_tools", "h5", "tflite", trains=True)
        for name in ("qat", "prune50", "prune80", "finetune")
    ),
)


def python_of(environment: Environment, folder: Path) -> Path:
    """The interpreter of an environment, which is made and filled where it is not there yet.

    Raises RuntimeError: a package does not install, with pip's last line.
    """
    place = folder / environment.name
    interpreter, mark = place / "bin" / "python", place / "requirements.txt"
    wanted = "\n".join(environment.requirements)
    if mark.is_file() and mark.read_text() == wanted:
        return interpreter
    print(f"installing {environment.name}: {' '.join(environment.requirements)}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    _run([str(interpreter), "-m", "pip", "install", "--quiet", *environment.requirements], 3600)
    mark.write_text(wanted)
    return interpreter


def write_file(
    method: Method, interpreter: Path, model: Path, data: Path, out: Path, training: tuple[int, float]
) -> None:
    """Let the peer write `out`. `training` is epochs and learning rate, which peers that do not train ignore.

    Raises RuntimeError: the peer failed, with the last line it said.
    """
    program = PROGRAMS / f"{method.program}.py"
    making = out.with_suffix(f".making.{method.gives}")
    arguments = [method.name, str(model), str(data), str(making), *map(str, training)]
    _run([str(interpreter), str(program), *arguments], LIMIT_S)
    making.rename(out)


def _run(command: list[str], limit_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"took longer than {limit_s:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(lines[-1][:300] if lines else f"ended with {done.returncode} and said nothing")
