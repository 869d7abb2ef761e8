"""What the device core costs: bytes on disk, time from start to the first answer, memory.

python -m benchmarks.device_core     about a minute; installs '.[litert]' into a folder of its own

The installation is what a device gets by `pip install --no-compile '.[litert]'`: this package, LiteRT, numpy and what
they depend on, and the bytecode of what a run imports, which Python writes at the first one. pip's default, the
bytecode of everything, stands beside it. The process imports `edge`, opens the keyword-spotting model of MLPerf Tiny
and runs it once; the time is the parent's, from before the process is started until its answer is read; the memory is
the most it ever had.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, write
from edgetool.verify.speed_gate import p95_upper

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data")
MODEL = SHARED / "models" / "mlperf_tiny" / "keyword_spotting" / "kws_ref_model.tflite"
RUNS = 60  # at least 59 bound a 95th percentile
DISK_MB, START_S, RSS_MB = 130.0, 0.6, 70.0
FIRST_ANSWER = """
import sys
from pathlib import Path
from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.worker import peak_rss_bytes
engine = open_engine(Path(sys.argv[1]), "tflite")
outputs = engine.run(fixed(engine.inputs))
print(sum(values.size for values in outputs.values()), peak_rss_bytes(), flush=True)
"""


def install(folder: Path) -> None:
    """What `pip install --no-compile '.[litert]'` brings."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-warn-conflicts"]
    where = ["--target", str(folder), "--constraint", str(REPOSITORY / "constraints.txt")]
    subprocess.run([*command, *where, f"{REPOSITORY}[litert]"], check=True, stderr=subprocess.DEVNULL)


def on_disk_mb(folder: Path) -> float:
    """Megabytes (10^6) of disk blocks that all files below a folder take."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e6


def first_answer(folder: Path) -> tuple[float, float]:
    """Seconds from start to the first answer, and the peak memory in megabytes (10^6), of one fresh process."""
    start = time.perf_counter()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(folder)
    # -S: nothing but this installation is on the path
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FIRST_ANSWER, str(MODEL)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    count, peak = (int(number) for number in line.split())
    assert count == 12, "the keyword model answers with 12 classes"
    return seconds, peak / 1e6


def main() -> None:
    """Install, measure, and write the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        install(folder)
        first_answer(folder)  # reads the files from disk and writes the bytecode of what it imports
        disk = on_disk_mb(folder)
        measured = [first_answer(folder) for _ in range(RUNS)]
        # some files are there for other versions of Python and do not compile
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=False, stdout=subprocess.DEVNULL)
        compiled = on_disk_mb(folder)
    seconds = sorted(one[0] for one in measured)
    peaks = sorted(one[1] for one in measured)
    # Order statistics around the median: a 95 % interval for n = 60 (binomial)
    median, interval = statistics.median(seconds), (seconds[21], seconds[38])
    figures = [
        Figure("disk", f"<= {DISK_MB:g}", disk, "MB", None, disk <= DISK_MB),
        Figure("disk_with_all_bytecode", "reported", compiled, "MB", None, True),
        Figure("start_to_first_answer.p50", f"<= {START_S:g}", median, "s", interval, interval[1] <= START_S),
        Figure("start_to_first_answer.p95_upper", "reported", p95_upper(seconds), "s", None, True),
        Figure("peak_rss.max", f"<= {RSS_MB:g}", peaks[-1], "MB", None, peaks[-1] <= RSS_MB),
    ]
    write("device_core", "python -m benchmarks.device_core", figures)


if __name__ == "__main__":
    main()
