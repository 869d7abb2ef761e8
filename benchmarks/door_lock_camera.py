"""A camera on the loopback, in a process of its own that can be stopped and killed: motion JPEG over HTTP at 15 fps.

python -m benchmarks.door_lock_camera PORT FOLDER     serves the folder's .jpg files, in order, again and again

Which picture is shown follows the wall clock, so that a camera that was started anew goes on where it would be.
"""

import http.server
import sys
import time
from pathlib import Path

from benchmarks.door_lock_rig import FPS


class Camera(http.server.ThreadingHTTPServer):
    """Serves pictures to whoever asks."""

    daemon_threads = True

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(("127.0.0.1", port), Stream)
        self.pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


class Stream(http.server.BaseHTTPRequestHandler):
    """One viewer."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Camera)
        pictures = self.server.pictures
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        due = time.time()
        while True:
            jpeg = pictures[int(due * FPS) % len(pictures)]
            try:
                self.wfile.write(f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode())
                self.wfile.write(jpeg + b"\r\n")
            except OSError:
                return
            due = max(due + 1 / FPS, time.time())
            time.sleep(max(0.0, due - time.time()))

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


if __name__ == "__main__":
    server = Camera(int(sys.argv[1]), Path(sys.argv[2]))
    print(server.server_address[1], flush=True)
    server.serve_forever()
