"""The routes: predict, models, health, readiness, metrics, the page, the OpenAPI document."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from edge.errors import UnknownName
from edge.tensors import TensorSpec
from edgetool.serve.gate import Gate
from edgetool.serve.limits import read_body
from edgetool.serve.metrics import CONTENT_TYPE, NO_MODEL, Metrics
from edgetool.serve.model import ServedModel
from edgetool.serve.openapi import DEFAULT_TOP, MAX_TOP, document, path_of
from edgetool.serve.page import page, page_headers
from edgetool.serve.payload import JSON, Payload, media_types
from edgetool.serve.refusal import STATUS, Refusal
from edgetool.serve.settings import Settings

# No answer is for caches, and no browser may guess what it is
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def make_app(models: Sequence[ServedModel], settings: Settings, token: str | None, metrics: Metrics) -> FastAPI:
    """The application. `token` is None where none is asked for."""
    routes = Routes(models, settings, metrics, document(models, settings, token=token is not None))
    app = FastAPI(title="edgetool serve", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.openapi = routes.described  # type: ignore[method-assign]  # FastAPI's own way to replace it
    app.add_middleware(Gate, token=token, metrics=metrics)
    app.post("/v1/models/{name}/predict")(routes.predict)
    for path, route in (
        ("/", routes.page),
        ("/health", routes.health),
        ("/ready", routes.ready),
        ("/metrics", routes.prometheus),
        ("/openapi.json", routes.openapi),
        ("/v1/models", routes.models),
    ):
        app.get(path)(route)
    app.exception_handler(HTTPException)(routes.no_route)
    app.exception_handler(Exception)(routes.bug)
    return app


class Routes:
    """What the server answers."""

    def __init__(
        self, models: Sequence[ServedModel], settings: Settings, metrics: Metrics, described: dict[str, Any]
    ) -> None:
        self._models = {model.name: model for model in models}
        self._settings, self._metrics, self._described = settings, metrics, described

    async def predict(self, name: str, request: Request) -> Response:
        """One raw example to the model's answer."""
        began = time.perf_counter()
        model = self._models.get(name)
        if model is None:
            error = UnknownName("model", name[:80], self._models)
            return self._refused(Refusal("unknown_model", error.message, error.hint))
        self._metrics.called(name)
        try:
            top = _top(request.query_params.multi_items())
            body = await read_body(request, self._settings.max_body_bytes, self._settings.timeout_s)
            payload = Payload(request.headers.get("content-type", ""), body)
            return Response(await model.predict(payload, top, began), media_type=JSON, headers=HEADERS)
        except Refusal as refusal:
            return self._refused(refusal, name)

    async def models(self) -> Response:
        """What is served."""
        described = [_description(model, self._settings) for model in self._models.values()]
        return JSONResponse({"models": described}, headers=HEADERS)

    async def health(self) -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"}, headers=HEADERS)

    async def ready(self) -> Response:
        """Every model has a process."""
        if not all(model.ready_workers for model in self._models.values()):
            return self._refused(Refusal("unavailable", "a model has no process that is ready", None, 1))
        return JSONResponse({"status": "ok"}, headers=HEADERS)

    async def prometheus(self) -> Response:
        """The counters."""
        return Response(self._metrics.text(), headers={**HEADERS, "content-type": CONTENT_TYPE})

    async def openapi(self) -> Response:
        """The OpenAPI document."""
        return JSONResponse(self._described, headers=HEADERS)

    async def page(self) -> Response:
        """The page."""
        nonce, content = page()
        return HTMLResponse(content, headers={**HEADERS, **page_headers(nonce)})

    async def no_route(self, request: Request, error: HTTPException) -> Response:
        """No such path, or not with this method."""
        if error.status_code == STATUS["method"]:
            refusal = Refusal("method", f"{request.url.path[:80]} takes no {request.method}", "see /openapi.json")
        else:
            refusal = Refusal("not_found", f"there is no {request.url.path[:80]}", "see /openapi.json")
        response = self._refused(refusal)
        response.headers.update(error.headers or {})
        return response

    async def bug(self, request: Request, error: Exception) -> Response:
        """What no request should reach; uvicorn logs the traceback."""
        reason = f"a bug in edgetool: {type(error).__name__} at {request.url.path[:80]}"
        return self._refused(Refusal("bug", reason, "the server's log has its traceback"))

    def described(self) -> dict[str, Any]:
        """The OpenAPI document as plain data."""
        return self._described

    def _refused(self, refusal: Refusal, model: str = NO_MODEL) -> Response:
        self._metrics.refused(model, refusal.kind)
        return JSONResponse(refusal.plain(), refusal.status, headers={**HEADERS, **refusal.headers})


def _top(items: Sequence[tuple[str, str]]) -> int:
    for key, _ in items:
        if key != "top":
            error = UnknownName("parameter", key[:80], ("top",))
            raise Refusal("misfit", error.message, error.hint)
    if not items:
        return DEFAULT_TOP
    text = items[-1][1]
    if len(items) > 1 or not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_TOP):
        raise Refusal("misfit", f"top is {text[:80]!r}", f"one whole number from 1 to {MAX_TOP}")
    return int(text)


def _description(model: ServedModel, settings: Settings) -> dict[str, Any]:
    manifest, loaded = model.bundle.manifest, model.loaded

    def tensor(spec: TensorSpec) -> dict[str, Any]:
        return {"name": spec.name, "shape": spec.shape, "dtype": spec.dtype}

    return {
        "name": model.name,
        "task": manifest.task,
        "target": manifest.target,
        "sha256": model.bundle.sha256,
        "path": path_of(model.name),
        "takes": media_types(model.bundle.preprocess),
        "labels": list(manifest.labels),
        "inputs": [{**tensor(spec), "preprocess": manifest.preprocess[spec.name]} for spec in manifest.inputs],
        "outputs": [tensor(spec) for spec in manifest.outputs],
        "engine": loaded.engine,
        "delegate": loaded.placement.requested,
        "threads": settings.threads,
        "workers": settings.workers,
        "ready_workers": model.ready_workers,
        "placement": dataclasses.asdict(loaded.placement),
        "recent_ms": [round(taken, 3) for taken in model.recent_ms],
    }
