import json
from pathlib import Path

import pytest

from device_apps.audit import AuditLog, FileAnchor, Head, NoRecord, read, verify
from device_apps.clock import FakeClock
from edge.errors import BadInput, CheckFailed, DiskFull

KEY = b"a" * 32


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl", KEY, FakeClock(), (FileAnchor(tmp_path / "head"),))
    for number in range(5):
        log.append("unlock", {"person": f"p{number}", "reasons": ("face and PIN",)})
    return log


def check(folder: Path) -> Head:
    return verify(folder / "audit.jsonl", KEY, (FileAnchor(folder / "head"),))


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)


def test_a_record_as_it_was_written_is_in_order(tmp_path: Path, log: AuditLog) -> None:
    assert check(tmp_path) == log.head
    assert log.head.seq == 5
    rows = list(read(tmp_path / "audit.jsonl"))
    assert [row["fields"]["person"] for row in rows] == ["p0", "p1", "p2", "p3", "p4"]


def test_an_edit_is_noticed_at_its_line(tmp_path: Path, log: AuditLog) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"p2", b"px"))
    with pytest.raises(CheckFailed, match="line 3 was changed"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("what", "order"), [("removed", [0, 2, 3, 4]), ("swapped", [0, 2, 1, 3, 4]), ("doubled", [0, 1, 1, 2])]
)
def test_lines_that_are_removed_swapped_or_doubled(tmp_path: Path, log: AuditLog, what: str, order: list[int]) -> None:
    lines = lines_of(tmp_path)
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines[number] for number in order))
    with pytest.raises(CheckFailed, match=r"line [23] was changed"):
        check(tmp_path)


def test_a_cut_off_end_is_missed_by_the_anchor(tmp_path: Path, log: AuditLog) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines_of(tmp_path)[:3]))
    with pytest.raises(CheckFailed, match="ends at line 3, the anchor holds line 5"):
        check(tmp_path)


def test_a_record_that_is_gone_or_an_anchor_that_is_gone(tmp_path: Path, log: AuditLog) -> None:
    head = (tmp_path / "head").read_bytes()
    (tmp_path / "head").unlink()
    with pytest.raises(CheckFailed, match="its anchor is gone"):
        check(tmp_path)
    (tmp_path / "head").write_bytes(head)
    (tmp_path / "audit.jsonl").unlink()
    with pytest.raises(CheckFailed, match="cut off"):
        check(tmp_path)


def test_a_whole_other_record_with_another_key_or_the_same(tmp_path: Path, log: AuditLog) -> None:
    for key, said in ((b"b" * 32, "line 1 was changed"), (KEY, "line 5 is another one")):
        (tmp_path / "audit.jsonl").unlink()
        forged = AuditLog(tmp_path / "audit.jsonl", key, FakeClock())
        for _ in range(7):
            forged.append("unlock", {"person": "nobody"})
        with pytest.raises(CheckFailed, match=said):
            check(tmp_path)


def test_a_torn_last_line_is_cut_off_and_the_chain_goes_on(tmp_path: Path, log: AuditLog) -> None:
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"seq":6,"at":17')
    again = AuditLog(tmp_path / "audit.jsonl", KEY, FakeClock(), (FileAnchor(tmp_path / "head"),))
    assert again.head == log.head
    again.append("started", {})
    assert check(tmp_path).seq == 6


def test_two_logs_on_one_file_keep_one_chain(tmp_path: Path, log: AuditLog) -> None:
    other = AuditLog(tmp_path / "audit.jsonl", KEY, FakeClock(), (FileAnchor(tmp_path / "head"),))
    for _ in range(3):
        other.append("enrolled", {})
        log.append("unlock", {})
    assert check(tmp_path).seq == 11


def test_a_damaged_end_is_said_and_not_overwritten(tmp_path: Path, log: AuditLog) -> None:
    path = tmp_path / "audit.jsonl"
    damaged = path.read_bytes() + b"no JSON\n"
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match="last line"):
        AuditLog(path, KEY, FakeClock())
    assert path.read_bytes() == damaged


def test_a_full_disk_says_so() -> None:
    log = AuditLog(Path("/dev/full"), KEY, FakeClock())  # it refuses every write as a full disk does
    with pytest.raises(DiskFull):
        log.append("unlock", {})
    assert log.head.seq == 0


def test_names_with_line_breaks_stay_in_their_line(tmp_path: Path, log: AuditLog) -> None:
    log.append("enrolled", {"name": 'x\n{"seq":7}\u2028"'})
    assert check(tmp_path).seq == 6
    assert len(lines_of(tmp_path)) == 6


def test_no_record_refuses_everything() -> None:
    with pytest.raises(BadInput, match="damaged"):
        NoRecord(BadInput("damaged")).append("unlock", {})


def test_a_damaged_anchor_is_no_anchor(tmp_path: Path, log: AuditLog) -> None:
    (tmp_path / "head").write_text(json.dumps({"seq": "?"}))
    with pytest.raises(BadInput, match="anchor"):
        check(tmp_path)


def test_the_file_is_its_owners(tmp_path: Path, log: AuditLog) -> None:
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
