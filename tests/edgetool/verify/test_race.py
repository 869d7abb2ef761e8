import fcntl
import multiprocessing
import time
from pathlib import Path

import pytest

from edge.engines.fake import FakeModel
from edge.errors import BadRecipe, EnvironmentFailed, UnknownName
from edge.report import Measurement, Placement, Skipped
from edgetool.verify.race import Entry, Settings, race

DATA = Path(__file__).resolve().parents[2] / "edge" / "data"
QUICK = Settings(blocks=12, block_seconds=0.004, max_warmup_seconds=0.1)


@pytest.fixture
def fake(tmp_path):
    def make(name: str, baseline: str | None = None, slowdown: float = 0.0, **settings) -> Entry:
        path = tmp_path / f"{name}.fake"
        path.write_bytes(FakeModel(**settings).to_bytes())
        return Entry(name, path, "fake", "fake", baseline=baseline, slowdown=slowdown)

    return make


@pytest.fixture
def lock(tmp_path) -> Path:
    """A lock of this test's own: the suite must not wait for a race elsewhere on the machine."""
    return tmp_path / "race.lock"


def test_a_slower_a_faster_and_an_equal_model_are_told_apart(fake, lock):
    entries = [
        fake("base", latency_ms=1.0),
        fake("slower", "base", latency_ms=1.4),
        fake("planted", "base", latency_ms=1.0, slowdown=0.4),
        fake("faster", "base", latency_ms=0.6),
        fake("same", "base", latency_ms=1.0),
    ]
    rows = race(entries, QUICK, lock=lock).rows
    assert list(rows) == ["base", "slower", "planted", "faster", "same"]
    assert all(isinstance(row, Measurement) for row in rows.values())
    base = rows["base"]
    assert (base.ratio, base.ratio_ci95, base.verdict) == (None, None, None)
    # a busy-wait ends when the clock says so: 1.4 and 0.6 are exact up to interruptions by other processes
    assert rows["slower"].ratio == pytest.approx(1.4, rel=0.05)
    assert rows["planted"].ratio == pytest.approx(1.4, rel=0.05)
    assert rows["faster"].ratio == pytest.approx(0.6, rel=0.05)
    assert rows["same"].ratio == pytest.approx(1.0, rel=0.05)
    assert [rows[name].verdict for name in ("slower", "planted", "faster")] == ["slower", "slower", "faster"]
    assert rows["same"].verdict not in ("slower", "faster")


def test_every_field_of_a_real_model_is_measured(lock):
    pytest.importorskip("ai_edge_litert")
    entry = Entry("tiny", DATA / "tiny.tflite", "tflite", "litert")
    told = []
    result = race([entry], QUICK, progress=lambda what, fraction: told.append((what, fraction)), lock=lock)
    row = result.rows["tiny"]
    assert (row.engine, row.delegate, row.threads, row.status) == ("litert", "cpu", 1, "measured")
    assert row.placement == Placement("xnnpack", "xnnpack", 5, 5)
    assert row.n >= QUICK.blocks * QUICK.min_calls
    assert row.n % QUICK.blocks == 0
    assert 0 < row.p50_ms <= row.p90_ms <= row.p95_ms <= row.p99_ms
    assert row.p95_upper_ms >= row.p95_ms
    assert row.load_ms > 0
    assert row.first_ms > 0
    assert row.peak_rss_bytes > 1 << 20
    assert result.conditions.seconds > 0
    assert result.conditions.others_cores is None or result.conditions.others_cores >= 0
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (told[0][0], fractions[-1]) == ("warming up tiny", 1.0)


def test_a_model_against_itself_is_neither_faster_nor_slower(lock):
    pytest.importorskip("onnxruntime")
    entries = [Entry(name, DATA / "tiny.onnx", "onnx", "onnxruntime", baseline=b) for name, b in (("a", None), ("b", "a"))]
    row = race(entries, Settings(blocks=20, block_seconds=0.005), lock=lock).rows["b"]
    assert row.verdict in ("not_slower", "inconclusive")
    assert row.ratio_ci95[0] <= row.ratio <= row.ratio_ci95[1]


@pytest.mark.parametrize("crash_at", [0, 1, 200])
def test_one_crash_costs_one_entry(fake, lock, crash_at):
    crashing = fake("crashing", "base", latency_ms=0.2, crash_at=crash_at)
    rows = race([fake("base", latency_ms=0.5), crashing, fake("good", "base", latency_ms=0.5)], QUICK, lock=lock).rows
    assert isinstance(rows["base"], Measurement)
    assert isinstance(rows["good"], Measurement)
    assert rows["good"].n == rows["base"].n or rows["good"].n % QUICK.blocks == 0
    skipped = rows["crashing"]
    assert isinstance(skipped, Skipped)
    assert skipped.what == "latency of crashing on fake, cpu, 1 threads"
    assert "SIGSEGV" in skipped.reason


def test_without_its_baseline_an_entry_has_times_and_no_ratio(fake, lock):
    rows = race([fake("base", crash_at=0), fake("other", "base", latency_ms=0.5)], QUICK, lock=lock).rows
    assert isinstance(rows["base"], Skipped)
    assert rows["other"].p50_ms >= 0.5
    assert (rows["other"].ratio, rows["other"].verdict) == (None, None)


def test_what_cannot_be_loaded_is_skipped_with_its_reason(fake, lock, tmp_path):
    entries = [
        fake("good"),
        Entry("missing", tmp_path / "missing.fake", "fake", "fake"),
        Entry("elsewhere", fake("good").path, "fake", "litert"),
    ]
    rows = race(entries, QUICK, lock=lock).rows
    assert isinstance(rows["good"], Measurement)
    assert "no model file" in rows["missing"].reason
    assert rows["elsewhere"].reason == "good.fake runs on fake, not on litert"


def test_only_like_is_compared_with_like(fake, lock):
    base = fake("base")
    with pytest.raises(UnknownName, match="unknown baseline: 'bass'"):
        race([base, fake("x", "bass")], QUICK, lock=lock)
    with pytest.raises(BadRecipe, match="2 threads"):
        race([base, Entry("x", base.path, "fake", "fake", threads=2, baseline="base")], QUICK, lock=lock)
    with pytest.raises(BadRecipe, match="the same id"):
        race([base, base], QUICK, lock=lock)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"blocks": 7, "min_calls": 20}, "7 blocks of 20 calls decide nothing"),
        ({"blocks": 10, "min_calls": 5}, "10 blocks of 5 calls decide nothing"),
        ({"block_seconds": 0.0}, "no block lasts"),
        ({"lead_in": -1}, "no block lasts"),
    ],
)
def test_settings_that_cannot_decide_are_refused(settings, told):
    with pytest.raises(BadRecipe, match=told):
        Settings(**settings)


def test_two_races_never_run_side_by_side(fake, lock):
    told = []
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        start = time.monotonic()
        with pytest.raises(EnvironmentFailed, match=r"has held .*race\.lock for more than 0\.3 s"):
            race(
                [fake("base")],
                Settings(max_wait_seconds=0.3),
                progress=lambda what, fraction: told.append(what),
                lock=lock,
            )
        assert time.monotonic() - start >= 0.3
    assert set(told) == {"waiting for another race to end"}
    assert isinstance(race([fake("base")], QUICK, lock=lock).rows["base"], Measurement)


def test_the_lock_is_free_again_when_a_race_is_killed(fake, lock):
    context = multiprocessing.get_context("spawn")
    entry = fake("slow", latency_ms=50)
    process = context.Process(target=race, args=([entry],), kwargs={"lock": lock})
    process.start()
    end = time.monotonic() + 20
    while not locked(lock) and time.monotonic() < end:
        time.sleep(0.02)
    assert locked(lock)
    process.kill()
    process.join()
    assert not locked(lock)


def locked(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_lock_that_is_a_link_is_not_followed(fake, tmp_path):
    target = tmp_path / "elsewhere"
    link = tmp_path / "link.lock"
    link.symlink_to(target)
    with pytest.raises(EnvironmentFailed, match="cannot open the lock"):
        race([fake("base")], QUICK, lock=link)
    assert not target.exists()
