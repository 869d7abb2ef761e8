"""How long `--help` takes, as a whole process, and whether it loads TensorFlow.

python -m benchmarks.startup     a few seconds; writes results/startup.json
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.figures import Figure, write
from edgetool.verify.speed_gate import p95_upper

RUNS = 60  # at least 59 bound a 95th percentile
# What `edgetool` the script does, without depending on where it is installed.
COMMANDS = {
    "edgetool_help": (("-c", "from edgetool.__main__ import main; main()", "--help"), 150.0),
    "edge_help": (("-m", "edge", "--help"), 80.0),
}


def wall_ms(arguments: Sequence[str]) -> float:
    """The wall-clock milliseconds of one `python ARGUMENTS`, from start to exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return 1e3 * (time.perf_counter() - start)


def loads_tensorflow(arguments: Sequence[str]) -> bool:
    """Whether the interpreter's own import log names tensorflow."""
    command = [sys.executable, "-X", "importtime", *arguments]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return any(line.split("|")[-1].strip() == "tensorflow" for line in log.splitlines())


def main() -> None:
    """Time the commands in turn and write the figures."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(RUNS + 1):
        for name, (arguments, _) in COMMANDS.items():
            taken = wall_ms(arguments)
            if run:  # the first run reads the files from disk
                times[name].append(taken)
    figures = []
    for name, (arguments, goal) in COMMANDS.items():
        ordered = sorted(times[name])
        # Order statistics around the median: a 95 % interval for n = 60 (binomial).
        interval = (ordered[21], ordered[38])
        median = statistics.median(ordered)
        figures.append(Figure(f"{name}.p50_ms", f"<= {goal:g}", median, "ms", interval, median <= goal))
        worst = p95_upper(times[name])
        figures.append(Figure(f"{name}.p95_upper_ms", "reported", worst, "ms", None, True))
        found = loads_tensorflow(arguments)
        figures.append(Figure(f"{name}.loads_tensorflow", "== 0", float(found), "", None, not found))
    write("startup", "python -m benchmarks.startup", figures)


if __name__ == "__main__":
    main()
