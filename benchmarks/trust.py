"""Whether a device refuses every attack on its updates, and what looking costs it.

python -m benchmarks.trust      about a minute

Each attack is a test (tests/edgetool/channel/test_attacks.py): a publisher, a web server on the loopback, a device that
has taken two releases, and an attacker with the server and some of the keys. They are run here, and counted by what
TUF's specification calls them. The costs are on this machine, not on a device: what the client's process adds in
memory, and the bytes of metadata that a look without and with a new release moves besides the bundle.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.figures import Figure, write

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = "tests/edgetool/channel/test_attacks.py"
# What section 1.5.2 of the specification lists (extraneous dependencies: a bundle has none), and the issue's own
ATTACKS = {
    "arbitrary software": ("arbitrary_software", "bundle_that_was_changed"),
    "endless data": ("endless",),
    "fast-forward": ("fast_forward",),
    "indefinite freeze": ("freeze",),
    "mix and match": ("mix_and_match",),
    "rollback and replay": ("rollback", "replay"),
    "slow retrieval": ("slow_retrieval",),
    "key compromise: too few signatures": ("one_of_two", "one_of_three", "only_its_new_keys"),
    "key compromise: revoked keys": ("revoked_key",),
    "wrong software": ("another_device",),
}


def main() -> int:
    """Run, count, write the figures; 1 where an attack was not refused."""
    outcomes = run_tests()
    refused = {}
    for attack, names in ATTACKS.items():
        found = [ok for test, ok in outcomes.items() if any(name in test for name in names)]
        refused[attack] = bool(found) and all(found)
        print(f"{attack:<36} {'refused' if refused[attack] else 'NOT REFUSED'} in {len(found)} tests", flush=True)
    count = sum(refused.values())
    figures = [
        Figure("trust.attacks_refused", f">= {len(ATTACKS)}", count, "attacks", None, count == len(ATTACKS)),
        Figure(
            "trust.attack_tests_passed",
            f">= {len(outcomes)}",
            sum(outcomes.values()),
            "tests",
            None,
            all(outcomes.values()),
        ),
        *costs(),
    ]
    write("trust", "python -m benchmarks.trust", figures)
    return 0 if all(figure.met for figure in figures) else 1


def run_tests() -> dict[str, bool]:
    """Whether each attack's test passed, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "tests.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS, f"--junitxml={record}"]
        subprocess.run(words, cwd=REPOSITORY, check=False, stdout=subprocess.DEVNULL)
        cases = ET.parse(record).iter("testcase")
        return {case.attrib["name"]: case.find("failure") is None and case.find("error") is None for case in cases}


def costs() -> list[Figure]:
    """Bytes of metadata that a first look, an idle look and a look at a new release move; megabytes of the client."""
    from edgetool.channel.repository import Quorum, begin
    from tests.edgetool.channel.rig import Rig
    from tests.edgetool.channel.web import serving

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        begin(home / "channel", home / "keys", Quorum(2, 3), Quorum(2, 3))
        with serving(home / "channel") as web:
            rig = Rig(home, web, home / "channel", home / "keys")
            rig.publish("1")
            moved = {}
            for look in ("first_look", "idle_look", "look_at_a_new_release"):
                if look == "look_at_a_new_release":
                    rig.publish("2")
                web.asked.clear()
                rig.device().latest("door")
                paths = [home / "channel" / path.lstrip("/") for path in web.asked]
                moved[look] = sum(path.stat().st_size for path in paths if path.is_file())
    figures = [Figure(f"trust.{look}", "reported", size, "B", None, True) for look, size in moved.items()]
    return [*figures, Figure("trust.client_rss", "reported", client_rss_mb(), "MB", None, True)]


def client_rss_mb() -> float:
    """The most memory of a process that has imported the client, above one that has imported nothing, in MB."""
    # not getrusage: what the parent had before it started the process counts there
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    sizes = [
        int(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
            ).stdout
        )
        for code in (peak, f"import edge.trust.update, edge.trust.signature; {peak}")
    ]
    return (sizes[1] - sizes[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
