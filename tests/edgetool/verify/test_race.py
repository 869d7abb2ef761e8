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
QUICK = Settings(blocks=2, block_seconds=0.003, max_warmup_seconds=0.05)


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
    assert row.placement == Placement("xnnpack", "xnnpack", 5, 5, partitions=1)
    assert row.n >= QUICK.launches * QUICK.blocks * QUICK.min_calls
    assert row.n % (QUICK.launches * QUICK.blocks) == 0
    assert 0 < row.p50_ms <= row.p90_ms <= row.p95_ms <= row.p99_ms
    assert row.p95_upper_ms >= row.p95_ms
    assert row.load_ms > 0
    assert row.first_ms > 0
    assert row.peak_rss_bytes > 1 << 20
    assert result.conditions.seconds > 0
    assert result.conditions.others_cores is None or result.conditions.others_cores >= 0
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (told[0][0], fractions[-1]) == ("racing, launch 1 of 8", 1.0)


def test_a_model_against_itself_is_neither_faster_nor_slower(lock):
    pytest.importorskip("onnxruntime")
    entries = [
        Entry(name, DATA / "tiny.onnx", "onnx", "onnxruntime", baseline=b) for name, b in (("a", None), ("b", "a"))
    ]
    row = race(entries, Settings(blocks=3, block_seconds=0.005), lock=lock).rows["b"]
    assert row.verdict in ("not_slower", "inconclusive")
    assert row.ratio_ci95[0] <= row.ratio <= row.ratio_ci95[1]


def test_one_failure_costs_one_entry(fake, lock, tmp_path):
    entries = [
        fake("base", latency_ms=0.5),
        fake("at_load", "base", crash_at=0),
        # a launch makes at least 80 calls here, the first 46 of them to warm up
        fake("in_a_block", "base", latency_ms=0.2, crash_at=70),
        Entry("missing", tmp_path / "missing.fake", "fake", "fake"),
        Entry("elsewhere", fake("good").path, "fake", "litert"),
        fake("good", "base", latency_ms=0.5),
        fake("orphan", "at_load", latency_ms=0.5),
    ]
    rows = race(entries, QUICK, lock=lock).rows
    assert {name for name, row in rows.items() if isinstance(row, Skipped)} == {
        "at_load",
        "in_a_block",
        "missing",
        "elsewhere",
    }
    assert rows["good"].ratio == pytest.approx(1.0, rel=0.05)
    assert rows["at_load"].what == "latency of at_load on fake, cpu, 1 threads"
    assert "SIGSEGV while loading at_load.fake" in rows["at_load"].reason
    assert "SIGSEGV while timing in_a_block.fake" in rows["in_a_block"].reason
    assert "no model file" in rows["missing"].reason
    assert rows["elsewhere"].reason == "good.fake runs on fake, not on litert"
    # without its baseline an entry has times and no ratio
    assert rows["orphan"].p50_ms >= 0.5
    assert (rows["orphan"].ratio, rows["orphan"].verdict) == (None, None)


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
        ({"launches": 7, "min_calls": 20}, "7 launches with 5 blocks of 20 calls decide nothing"),
        ({"blocks": 1, "min_calls": 7}, "8 launches with 1 blocks of 7 calls decide nothing"),
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
