"""The bare framework: a FastAPI application that echoes the body, run by uvicorn as `edgetool serve` runs its own."""

import socket

import uvicorn
from fastapi import FastAPI, Request, Response

from edgetool.serve.server import configuration
from edgetool.serve.settings import Settings

app = FastAPI()


@app.post("/echo")
async def echo(request: Request) -> Response:
    """The body, as it came."""
    return Response(await request.body(), media_type=request.headers.get("content-type"))


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(configuration(app, Settings(), "httptools")).run([listener])
