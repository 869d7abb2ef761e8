"""An RTSP camera: how old frames are when they are decided on, and how soon it is noticed that it froze or died."""

import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from device_apps.clock import SystemClock
from device_apps.door_lock.camera import Camera, Frame
from device_apps.door_lock.detect import Picture
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.source import open_source
from device_apps.door_lock.watcher import Watcher
from tests.device_apps.door_lock.rtsp import CYCLE, RtspCamera, number_in, numbered, why_absent
from tests.device_apps.door_lock.test_camera import LOST_MS, wait_for

pytestmark = pytest.mark.skipif(why_absent() is not None, reason=f"no RTSP server: {why_absent()}")
GREY = np.full((480, 640, 3), 110, np.uint8)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspCamera]:
    camera = RtspCamera(tmp_path_factory.mktemp("rtsp") / "pictures", [GREY] * CYCLE)
    yield camera
    camera.kill()


@pytest.fixture
def camera(served: RtspCamera) -> Iterator[Camera]:
    opened = Camera(lambda: open_source(served.address, 15), SystemClock())
    opened.start()
    yield opened
    opened.stop()


def test_every_number_is_read_as_it_was_written() -> None:
    for number in range(CYCLE):
        assert number_in(numbered(GREY, number)) == number


def test_what_was_kept_while_the_stream_was_opened_is_thrown_away(served: RtspCamera) -> None:
    source = open_source(served.address, 15)
    ages = []
    for _ in range(5):
        picture = source.read()
        assert picture is not None
        ages.append(served.age_s(number_in(picture)))
    source.close()
    assert max(ages) < 0.5  # 1.3 s were seen


def test_no_frame_is_older_than_500_ms_when_inference_takes_200(served: RtspCamera, camera: Camera) -> None:
    ages: list[float] = []

    def look(_: Picture, captured_s: float) -> Finding:
        time.sleep(0.2)
        return Finding(captured_s)

    def found(frame: Frame, _: Finding) -> None:
        ages.append(served.age_s(number_in(frame.picture)))

    watcher = Watcher(camera, lambda: look, found, SystemClock())
    watcher.start()
    wait_for(lambda: len(ages) >= 15)
    watcher.stop()
    assert max(ages) <= 0.5
    assert min(ages) >= 0.2


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_frozen_and_a_killed_camera_are_noticed_and_come_back(
    served: RtspCamera, camera: Camera, how: signal.Signals
) -> None:
    wait_for(lambda: camera.fault(time.monotonic(), LOST_MS) is None)
    served.process.send_signal(how)
    took = wait_for(lambda: camera.fault(time.monotonic(), LOST_MS) is not None)
    assert took <= 1.5
    if how == signal.SIGSTOP:
        served.process.send_signal(signal.SIGCONT)
    else:
        served.kill()
        served.start()
    wait_for(lambda: camera.fault(time.monotonic(), LOST_MS) is None, 30)
