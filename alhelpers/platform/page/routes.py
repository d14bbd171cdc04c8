"""Routes of the page, its log-in, and its security headers."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from ..api import Call, Raw
from ..auth import Credentials, equal
from ..errors import ApiError, bad_request, not_found
from ..logs import Logs
from ..uploads import FORM_LIMIT, read_body
from . import annotating, drawing, labelling, runs, session, views
from .render import environment

View = Callable[[Call], dict[str, Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Runs a view on the state thread, as one transaction, and returns its result as JSON.
OnState = Callable[[View, web.Request, Any], Awaitable[Raw]]

# How often a page reloads while something runs.
LIVE_SECONDS = 5
LOG_LINES = 1000
# No scripts, no frames, nothing from other hosts: a hostile name that escapes escaping can do nothing.
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
# Labelling has two scripts of ours: one draws boxes, one sends forms and loads pages.
SCRIPTS = ("boxes.js", "label.js")
SCRIPT_POLICY = POLICY + "; script-src 'self'; connect-src 'self'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A file that is opened by itself runs in a sandbox.
BYTES_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=60",
}
# Saves that can be undone, of all sessions; they are forgotten when the server ends.
UNDOABLE = 200
# Served without a log-in.
OPEN = ("/login", "/login/style.css", "/login/icon.svg")
# A page without an icon makes browsers ask for one that is not there.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="#0b5cad"/>'
    '<circle cx="8" cy="8" r="2.5" fill="#fff"/></svg>'
)
_NEXT = re.compile(r"/(?![/\\])[\w./?=&%~*+:@,;()-]*", re.ASCII)

PAGES: dict[str, tuple[str, View]] = {
    "/": ("projects.html", views.projects),
    "/projects/{project_id}": ("project.html", views.project),
    "/projects/{project_id}/executions": ("executions.html", runs.executions),
    "/datasets/{dataset_id}": ("dataset.html", views.dataset),
    "/items/{item_id}": ("item.html", labelling.item),
    "/tasks/{task_id}": ("task.html", labelling.task),
    "/pipelines/{pipeline_id}": ("pipeline.html", runs.pipeline),
    "/cycles/{cycle_id}": ("cycle.html", runs.cycle),
}

# Addresses that the SDK opens in a browser (`open_in_web`), and the page's own for the same.
ADDRESSES = {
    "/projects": "/",
    "/projects/{project_id}/datasets/{id}/items": "/datasets/{id}",
    "/projects/{project_id}/datasets/{dataset_id}/items/{id}": "/items/{id}",
    "/projects/{project_id}/tasks/{id}": "/tasks/{id}",
    "/projects/{project_id}/pipelines/{id}": "/pipelines/{id}",
    "/projects/{project_id}/model/{id}": "/models/{id}",
    "/projects/{project_id}/services/{id}/main": "/projects/{project_id}/executions",
    # Lists, assignments, recipes and packages have no page.
    "/projects/{project_id}/{kind}": "/projects/{project_id}",
    "/projects/{project_id}/{kind}/{id}": "/projects/{project_id}",
    "/projects/{project_id}/packages/{id}/main": "/projects/{project_id}",
}


def is_page(path: str) -> bool:
    """Return whether a path belongs to the page, not to the API."""
    return path != "/token" and not path.startswith("/api/")


class Pages:
    """The page's routes; `thumbnail` is the API's handler for thumbnails of items."""

    def __init__(self, credentials: Credentials, logs: Logs, on_state: OnState, thumbnail: Handler) -> None:
        self.credentials = credentials
        self.logs = logs
        self.on_state = on_state
        self.thumbnail = thumbnail
        self.templates = environment()
        self.style, *self.scripts = (
            (Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("style.css", *SCRIPTS)
        )
        self.saves: deque[dict[str, Any]] = deque(maxlen=UNDOABLE)

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path, (template, view) in PAGES.items():
            router.add_get(path, self._page(template, view))
        for path, target in ADDRESSES.items():
            router.add_get(path, _redirect_to(target))
        router.add_get("/models/{model_id}", self._model)
        router.add_get("/executions/{execution_id}", self._execution)
        router.add_get("/items/{item_id}/content", self._content)
        router.add_get("/items/{item_id}/thumbnail", self.thumbnail)
        router.add_get("/annotations/{annotation_id}/mask", self._mask)
        router.add_get("/login", self._login_form)
        router.add_get("/login/style.css", _asset(self.style, "text/css"))
        router.add_get("/login/icon.svg", _asset(ICON, "image/svg+xml"))
        for name, script in zip(SCRIPTS, self.scripts, strict=True):
            router.add_get(f"/{name}", _asset(script, "text/javascript"))
        router.add_get("/tasks/{task_id}/label", self._begin)
        router.add_get("/tasks/{task_id}/items/{item_id}", self._annotating)
        router.add_post("/tasks/{task_id}/items/{item_id}", self._save)
        router.add_post("/tasks/{task_id}/undo", self._undo)
        router.add_post("/tasks/{task_id}/items/{item_id}/status", self._set_status)
        router.add_post("/login", self._login)
        router.add_post("/logout", self._logout)

    async def serve(self, request: web.Request, handler: Handler, known: set[Any]) -> web.StreamResponse:
        """Handle a request or ask for the token, and add the security headers; `known` are logged in connections."""
        logged_in = self._is_logged_in(request)
        if logged_in:
            known.add(request.protocol)
        if request.method == "GET" and "token" in request.query:
            answer: web.StreamResponse = self._login_by_link(request)
        elif request.path in OPEN or logged_in:
            answer = await handler(request)
        else:
            message = "Log in to see this page." if _cookie(request) is None else "This log-in has ended."
            answer = self._ask_for_token(message, request.path_qs)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    def _is_logged_in(self, request: web.Request) -> bool:
        cookie = _cookie(request)
        if cookie is not None and session.is_session(self.credentials, cookie):
            return True
        return self.credentials.accepts(request.headers.get("Authorization"))

    def _login_by_link(self, request: web.Request) -> web.Response:
        """Exchange the key in a link for a cookie, and redirect to the address without the key."""
        rest = {name: value for name, value in request.query.items() if name != "token"}
        target = _local_address(request.path + ("?" + urlencode(rest) if rest else ""))
        if not session.is_key(self.credentials, request.query["token"]):
            return self._ask_for_token("This link is of another platform, or of a former one.", target)
        return self._start_session(request, target)

    def _start_session(self, request: web.Request, target: str) -> web.Response:
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # From JupyterLab on 'localhost', for example: after a redirect the browser would still withhold the
            # cookie, as for the other site. A page that links on avoids that.
            answer = self._html("welcome.html", {"target": target})
        else:
            answer = _see(target)
        cookie = session.new_session(self.credentials)
        answer.set_cookie(_cookie_name(request), cookie, httponly=True, samesite="Strict", path="/")
        return answer

    def _ask_for_token(self, message: str, target: str) -> web.Response:
        return self._html("login.html", {"message": message, "next": _local_address(target)}, status=401)

    async def _login_form(self, request: web.Request) -> web.Response:
        target = _local_address(request.query.get("next", "/"))
        return self._html("login.html", {"message": None, "next": target})

    async def _login(self, request: web.Request) -> web.Response:
        form = await _form(request)
        target = form.get("next", "/")
        if not session.is_key(self.credentials, form.get("password", "").strip()):
            return self._ask_for_token("That is not the token of this platform.", target)
        return self._start_session(request, _local_address(target))

    async def _logout(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        answer = _see("/login")
        answer.del_cookie(_cookie_name(request), httponly=True, samesite="Strict", path="/")
        return answer

    async def _checked_form(self, request: web.Request) -> dict[str, str]:
        """Read a form that only a page of this session can have sent."""
        form, cookie = await _form(request), _cookie(request)
        token = form.get("form_token", "")
        if cookie is not None and not equal(token, session.form_token(self.credentials, cookie)):
            message = "this form is not from this page, or from before a new log-in: load the page again"
            raise ApiError(403, message)
        return form

    def _page(self, template: str, view: View) -> Handler:
        async def page(request: web.Request) -> web.Response:
            return self._html(template, await self._view(view, request), request)

        return page

    async def _model(self, request: web.Request) -> web.Response:
        shown = await self._view(runs.model, request)
        curves = await asyncio.to_thread(runs.curves, shown["evaluations"])
        return self._html("model.html", shown | {"figures": curves + shown["figures"]}, request)

    async def _execution(self, request: web.Request) -> web.Response:
        shown = await self._view(runs.execution, request)
        execution = shown["execution"]
        service_id = str(execution["serviceId"])
        logs, total = await asyncio.to_thread(self.logs.last, service_id, execution["id"], LOG_LINES)
        return self._html("execution.html", shown | {"logs": logs, "logs_total": total}, request)

    async def _set_status(self, request: web.Request) -> web.Response:
        form = await self._checked_form(request)
        await self._view(labelling.set_status, request, form)
        return _see(_local_address(form.get("back", "/")))

    async def _begin(self, request: web.Request) -> web.Response:
        return _see((await self._view(annotating.start, request))["next"])

    async def _annotating(self, request: web.Request) -> web.Response:
        shown = await self._view(annotating.show, request)
        answer = self._html("label.html", shown | {"undoable": bool(self._saves(request))}, request)
        answer.headers["Content-Security-Policy"] = SCRIPT_POLICY
        return answer

    async def _save(self, request: web.Request) -> web.Response:
        form = await self._checked_form(request)
        saved = await self._view(annotating.save, request, form)
        self.saves.append(saved["undo"] | {"session": _cookie(request)})
        return _see(saved["next"])

    async def _undo(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        saves = self._saves(request)
        if not saves:
            raise bad_request("nothing of this task can be undone: open the item, and change it")
        self.saves.remove(saves[-1])
        return _see((await self._view(annotating.undo, request, saves[-1]))["next"])

    def _saves(self, request: web.Request) -> list[dict[str, Any]]:
        """List what this session has saved in a task, the oldest first."""
        of = {"session": _cookie(request), "task": request.match_info["task_id"]}
        return [save for save in self.saves if of.items() <= save.items()]

    async def _view(self, view: View, request: web.Request, body: Any = None) -> dict[str, Any]:
        return json.loads((await self.on_state(view, request, body)).text)

    def _html(
        self, template: str, values: dict[str, Any], request: web.Request | None = None, status: int = 200
    ) -> web.Response:
        cookie = _cookie(request) if request is not None else None
        live = request is not None and values.get("live") and request.query.get("live") != "no"
        values = {
            "form_token": session.form_token(self.credentials, cookie) if cookie else "",
            "logged_in": cookie is not None,
            "path": request.path if request is not None else "",
            "here": _local_address(request.path_qs) if request is not None else "/",
            "refresh": LIVE_SECONDS if live else None,
        } | values
        text = self.templates.get_template(template).render(values)
        # A document may hold a lone surrogate, which cannot be encoded.
        body = text.encode(errors="replace")
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")

    def failure(self, status: int, message: str) -> web.Response:
        answer = self._html("error.html", {"status": status, "message": message}, status=status)
        answer.headers.update(HEADERS)
        return answer

    async def _content(self, request: web.Request) -> web.StreamResponse:
        """Send an item's bytes: images to be shown, other files to be saved."""
        found = await self._view(views.content, request)
        headers = BYTES_HEADERS | {"Content-Type": found["mimetype"] or "application/octet-stream"}
        if found["mimetype"] is None:
            name = quote(found["name"], errors="replace")
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
        if not Path(found["path"]).is_file():  # deleted or overwritten after the view ran
            raise not_found("the bytes of item", request.match_info["item_id"])
        return web.FileResponse(found["path"], headers=headers)

    async def _mask(self, request: web.Request) -> web.Response:
        annotation = await self._view(views.mask, request)
        body = drawing.mask_png(annotation)
        return web.Response(body=body, content_type="image/png", headers=BYTES_HEADERS)


def _cookie_name(request: web.Request) -> str:
    # Cookies are shared by all ports of a host: two platforms side by side need two names.
    return f"{session.COOKIE}-{request.get_extra_info('sockname', ('', 0))[1]}"


def _cookie(request: web.Request) -> str | None:
    return request.cookies.get(_cookie_name(request))


def _see(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address})


def _asset(text: str, kind: str) -> Handler:
    async def asset(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "private, max-age=300"}
        return web.Response(text=text, content_type=kind, charset="utf-8", headers=headers)

    return asset


def _redirect_to(target: str) -> Handler:
    async def redirect(request: web.Request) -> web.Response:
        parts = {name: quote(value, safe="") for name, value in request.match_info.items()}
        return _see(target.format_map(parts))

    return redirect


def _local_address(target: str) -> str:
    """Return the address if it is on this page, else the first page."""
    return target if _NEXT.fullmatch(target) else "/"


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise bad_request(f"a form must be sent urlencoded, got {request.content_type!r}")
    return await read_body(request, FORM_LIMIT) or {}
