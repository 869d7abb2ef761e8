"""An RTSP camera: `/usr/bin/python3 rtsp_camera.py PORT FOLDER FPS`, with Debian's GStreamer and its gi.

It plays the folder's .jpg files in order, again and again, as a camera does: each when it is due, whoever watches. Once
it serves it prints when (monotonic clock, which all processes share) picture 0 was due; picture n is due n / FPS later.
"""

import sys
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  # after their versions

Gst.init(None)
PORT, FOLDER, FPS = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
PICTURES = [path.read_bytes() for path in sorted(FOLDER.glob("*.jpg"))]
START = time.monotonic()
LAUNCH = (
    "( appsrc name=source is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream "
    f"caps=image/jpeg,framerate={round(FPS)}/1 ! jpegparse ! rtpjpegpay name=pay0 pt=26 )"
)


def configured(_factory, media):
    source = media.get_element().get_by_name_recurse_up("source")
    shown = [int((time.monotonic() - START) * FPS)]
    ended = []
    media.connect("unprepared", ended.append)

    def push():
        number = int((time.monotonic() - START) * FPS)
        if number > shown[0]:
            shown[0] = number
            source.emit("push-buffer", Gst.Buffer.new_wrapped(PICTURES[number % len(PICTURES)]))
        return not ended

    GLib.timeout_add(5, push)


server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(PORT)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(LAUNCH)
factory.set_shared(True)
factory.connect("media-configure", configured)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(f"{server.get_bound_port()} {START!r}", flush=True)
GLib.MainLoop().run()
