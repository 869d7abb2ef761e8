"""What hearing costs: the real-time factor of wake word and voice activity, the time from the end of speech to the
action, and memory.

python -m benchmarks.voice_realtime             about five minutes
python -m benchmarks.voice_realtime --soak 60   an hour more: memory's slope while the microphone is unplugged 50 times
python -m benchmarks.voice_realtime --slice     some seconds, for CI

The factor is CPU time of one thread over seconds of sound, in blocks of 20 ms, on real recordings. For the end, the app
runs as a process behind a pipe that is written in real time: the last sample of a spoken command is written at a known
time, and the action's event says when it was done. Commands are espeak-ng's behind real people's wake word.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import RESULTS, Figure, write
from benchmarks.voice_parts import MOONSHINE, SHARED, recording, state_with
from device_apps.voice_assistant.activity import EnergyActivity, TinyActivity, VoiceActivity
from device_apps.voice_assistant.cases import wav
from device_apps.voice_assistant.endpoint import EndpointRules, Heard, step
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.wake import Detector, OperatingPoint
from edge.engines import open_engine
from edge.report import Interval

BLOCK = 320
SEGMENTS, SEGMENT_S = 10, 30
COMMANDS = 24
MAX_RTF, MAX_END_MS, MAX_RSS_MB, MAX_SLOPE = 0.02, 200.0, 140.0, 1.0
HANGOVER_MS = EndpointRules().hangover_ms
UNPLUGGED = 50
WARM_UP_S = 600.0
T_95 = 2.262  # Student's, 9 degrees of freedom: ten segments


def main() -> int:
    """Measure, write the figures; 1 where one is not met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="and listen for so long")
    parser.add_argument("--parts", default="factors,lags,ends", help="what is measured anew (%(default)s)")
    parser.add_argument(
        "--commands", type=int, default=COMMANDS, metavar="N", help="commands to be spoken (%(default)s)"
    )
    parser.add_argument("--slice", action="store_true", help="some seconds, and no results are written")
    options = parser.parse_args()
    if not (SHARED / "speech").is_dir():
        print("SKIPPED: the shared data is not here")
        return 0
    figures: list[Figure] = []
    parts = options.parts.split(",")
    if "factors" in parts:
        figures += factors(2 if options.slice else SEGMENTS, 5 if options.slice else SEGMENT_S)
    if "lags" in parts:
        figures += lags(4 if options.slice else None)
    if "ends" in parts:
        with tempfile.TemporaryDirectory() as folder:
            figures += ends(Path(folder), 1 if options.slice else options.commands)
    if options.soak:
        with tempfile.TemporaryDirectory() as folder:
            figures += soak(Path(folder), options.soak * 60)
    for figure in figures:
        print(figure.name, figure.value, figure.unit, figure.ci95, figure.goal, "met" if figure.met else "NOT MET")
    if not options.slice:
        write("voice_realtime", "python -m benchmarks.voice_realtime --soak 60", merged(figures))
    return 0 if options.slice or all(figure.met for figure in figures) else 1


def merged(figures: Sequence[Figure]) -> list[Figure]:
    """The figures that are there already and were not measured now, then the new ones."""
    from edge.report import from_plain

    path = RESULTS / "voice_realtime.json"
    before = [from_plain(Figure, one) for one in json.loads(path.read_text())["figures"]] if path.exists() else []
    names = {figure.name for figure in figures}
    return [figure for figure in before if figure.name not in names] + list(figures)


def sounds() -> Samples:
    """Ten minutes of real recordings, or what there is of them: people, rooms, noises."""
    speech = SHARED / "speech"
    paths = sorted((speech / "speechcmd_samples").rglob("*.wav")) + sorted((speech / "alphanumeric").rglob("*.wav"))
    made = []
    for path in paths:
        try:
            made.append(recording(path))
        except Exception as error:  # noqa: BLE001  # two of the noises are no PCM
            print(f"left out: {path.name}: {error}", file=sys.stderr)
    return np.concatenate(made)


def factors(count: int, seconds: int) -> Iterator[Figure]:
    """CPU time over sound of the wake word with each voice activity."""
    import pymicro_wakeword

    from device_apps.voice_assistant.wake import MicroWake

    alexa = Path(pymicro_wakeword.__file__).parent / "models" / "alexa.tflite"
    tiny = MOONSHINE / "tinyvad_cnn_speech_mel_fp32.tflite"
    sound = np.resize(sounds(), count * seconds * RATE_HZ)
    detector = Detector({"alexa": MicroWake(open_engine(alexa, "tflite"))}, {"alexa": OperatingPoint(0.9, 5)})
    activities: dict[str, VoiceActivity] = {
        "tinyvad": TinyActivity(open_engine(tiny, "tflite")),
        "energy": EnergyActivity(),
    }
    for name, activity in activities.items():
        found = []
        for number in range(count):
            taken = sound[number * seconds * RATE_HZ : (number + 1) * seconds * RATE_HZ]
            started = time.process_time()
            for at in range(0, len(taken), BLOCK):
                detector.push(taken[at : at + BLOCK])
                activity.push(taken[at : at + BLOCK])
            found.append((time.process_time() - started) / seconds)
        upper = interval(found)[1]
        yield Figure(
            f"rtf.wake_and_{name}", f"<= {MAX_RTF}", float(np.mean(found)), "", interval(found), upper <= MAX_RTF
        )


def interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean."""
    half = T_95 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - half, float(np.mean(values)) + half


class App:
    """The app as a process behind a pipe that is written in real time."""

    def __init__(self, folder: Path) -> None:
        self.state = state_with(folder, "letters", tiny=True)
        self.pipe = folder / "mic"
        os.mkfifo(self.pipe)
        line = [sys.executable, "-m", "device_apps.voice_assistant", "--mic", f"fifo:{self.pipe}", "--json"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*line, "--state", str(self.state.folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        while not self.events:
            time.sleep(0.05)
            if self.process.poll() is not None:
                raise RuntimeError("the assistant did not start")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def play(self, samples: Samples) -> float:
        """Write 20 ms at a time, each when it is due; the wall time at which the last one was written."""
        content, due, at = wav(samples)[44:], time.monotonic(), 0
        while at < len(content):
            with contextlib.suppress(BrokenPipeError), self.pipe.open("wb", buffering=0) as pipe:
                while at < len(content):  # a machine that lets this wait for a second has the app open the pipe anew
                    pipe.write(content[at : at + 2 * BLOCK])
                    at += 2 * BLOCK
                    due = max(due + BLOCK / RATE_HZ, time.monotonic() - 0.1)
                    time.sleep(max(0.0, due - time.monotonic()))
        return time.time()

    def rss_mb(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def ends(folder: Path, count: int) -> Iterator[Figure]:
    """From the end of speech to the action, less the hang-over; and the memory meanwhile."""
    app = App(folder)
    letters = sorted((SHARED / "speech/alphanumeric").rglob("petewarden_nohash_0.wav"))
    words = [recording(path) for path in sorted((SHARED / "speech/microww_tests/alexa").glob("*.wav"))]
    rng = np.random.default_rng(11)
    late, told, rss = [], [], []
    for number in range(count):
        spoken = trimmed(recording(letters[int(rng.integers(len(letters)))]))
        head = np.concatenate([quiet(rng, 2.5), words[number % len(words)], quiet(rng, 0.4), spoken])
        before = len(app.events)
        held = os.open(app.pipe, os.O_RDWR)  # the pipe has a writer all the time
        end = app.play(head)
        app.play(quiet(rng, 1.5))
        os.close(held)
        found = [event for event in app.events[before:] if event["event"] == "intent"]
        rss.append(app.rss_mb())
        if found:
            late.append((found[0]["at"] - end) * 1000 - HANGOVER_MS)
            told.append(found[0]["after_hangover_ms"])
    app.stop()
    p95 = float(np.quantile(late, 0.95)) if late else None
    bounds = quantile_interval(late, 0.5)
    yield Figure("end.commands_heard", "reported", len(late), f"of {count}", None, met=True)
    yield Figure("end.to_action_p50", f"<= {MAX_END_MS:g}", float(np.median(late)) if late else None, "ms", bounds,
                 bounds is not None and bounds[1] <= MAX_END_MS)  # fmt: skip
    yield Figure("end.to_action_p95", "reported", p95, "ms", None, met=True)
    yield Figure(
        "end.after_hangover_by_the_app_p50", "reported", float(np.median(told)) if told else None, "ms", None, met=True
    )
    yield Figure("memory.rss", f"<= {MAX_RSS_MB:g}", max(rss), "MB", None, max(rss) <= MAX_RSS_MB)


def lags(count: int | None) -> Iterator[Figure]:
    """How much later than the hang-over a command's end is seen, in seconds of sound: no machine's load is in it."""
    engine = open_engine(MOONSHINE / "tinyvad_cnn_speech_mel_fp32.tflite", "tflite")
    words = sorted((SHARED / "speech/alphanumeric").rglob("petewarden_nohash_0.wav"))[:count]
    activities: dict[str, VoiceActivity] = {"tinyvad": TinyActivity(engine), "energy": EnergyActivity()}
    for name, activity in activities.items():
        found = [lag_ms(activity, trimmed(recording(path))) for path in words]
        seen = [one for one in found if one is not None]
        yield Figure(
            f"end.lag.{name}_p50", "reported", float(np.median(seen)), "ms", quantile_interval(seen, 0.5), met=True
        )
        yield Figure(f"end.lag.{name}_p95", f"<= {MAX_END_MS:g}", float(np.quantile(seen, 0.95)), "ms",
                     quantile_interval(seen, 0.95), float(np.quantile(seen, 0.95)) <= MAX_END_MS)  # fmt: skip
        yield Figure(
            f"end.ended_within_the_word.{name}", "reported", len(found) - len(seen), f"of {len(found)}", None, met=True
        )


def lag_ms(activity: VoiceActivity, spoken: Samples) -> float | None:
    """From the hang-over's due end to the end that is seen; None where that comes before the word is over."""
    rng, rules, heard = np.random.default_rng(11), EndpointRules(), Heard()
    activity.reset()
    activity.push(quiet(rng, 1.0))
    sound = np.concatenate([quiet(rng, 0.4), spoken, quiet(rng, 2.0)])
    due = round(0.4 * RATE_HZ) + len(spoken) + rules.hangover_ms * RATE_HZ // 1000
    for at in range(0, len(sound), BLOCK):
        for flag in activity.push(sound[at : at + BLOCK]).tolist():
            heard, outcome = step(heard, flag, activity.hop / RATE_HZ, rules)
            if outcome == "ended":
                late = at + BLOCK - due
                return late / RATE_HZ * 1000 if late > -RATE_HZ // 10 else None
    return None


def trimmed(samples: Samples) -> Samples:
    """A recording without what is quieter than a twentieth of its peak at both ends."""
    loud = np.flatnonzero(np.abs(samples) > 0.05 * np.abs(samples).max())
    return samples[loud[0] : loud[-1]]


def quiet(rng: np.random.Generator, seconds: float) -> Samples:
    """A quiet room."""
    return rng.normal(size=round(seconds * RATE_HZ)).astype(np.float32) * np.float32(2e-4)


def quantile_interval(values: Sequence[float], quantile: float) -> Interval | None:
    """Distribution-free, by bootstrap of 2,000; None for too few."""
    if len(values) < 5:
        return None
    rng = np.random.default_rng(0)
    drawn = np.quantile(rng.choice(values, (2000, len(values))), quantile, axis=1)
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def soak(folder: Path, seconds: float) -> Iterator[Figure]:
    """Listens while the microphone is unplugged 50 times; the slope of memory after the first ten minutes."""
    app = App(folder)
    sound = sounds()
    times, rss = [], []
    began = time.monotonic()
    for turn in range(UNPLUGGED):
        part = np.roll(sound, -turn * 20 * RATE_HZ)[: max(1, round((seconds / UNPLUGGED - 1.5) * RATE_HZ))]
        sampler = threading.Thread(target=app.play, args=(part,), daemon=True)
        sampler.start()
        while sampler.is_alive():
            sampler.join(5.0)
            times.append(time.monotonic() - began)
            rss.append(app.rss_mb())
        time.sleep(1.5)  # unplugged
        print(f"{times[-1]:.0f} s  {rss[-1]:.1f} MB", flush=True)
    losses = sum(event["event"] == "fault" and event["source"] == "microphone" for event in app.events)
    app.stop()
    late = np.array(times) >= min(WARM_UP_S, seconds / 3)
    upper, slope, lower = slope_of(np.array(times)[late] / 3600, np.array(rss)[late])
    whole = seconds >= 3600
    yield Figure("soak.minutes", ">= 60", seconds / 60, "min", None, whole)
    yield Figure("soak.unplugged", f">= {UNPLUGGED}", losses, "times", None, losses >= UNPLUGGED)
    yield Figure("soak.rss_slope", f"<= {MAX_SLOPE:g}", slope, "MB/h", (lower, upper), upper <= MAX_SLOPE)
    yield Figure("soak.rss", f"<= {MAX_RSS_MB:g}", max(rss), "MB", None, max(rss) <= MAX_RSS_MB)


def slope_of(hours: Any, values: Any) -> tuple[float, float, float]:
    """Upper bound, slope, lower bound: least squares in blocks, since neighbours are alike (batch means of 10)."""
    blocks = [block for block in np.array_split(np.arange(len(hours)), 10) if len(block)]
    x = np.array([hours[block].mean() for block in blocks])
    y = np.array([values[block].mean() for block in blocks])
    slope, offset = np.polyfit(x, y, 1)
    error = np.sqrt(np.sum((y - slope * x - offset) ** 2) / (len(x) - 2) / np.sum((x - x.mean()) ** 2))
    return float(slope + 2.306 * error), float(slope), float(slope - 2.306 * error)


if __name__ == "__main__":
    sys.exit(main())
