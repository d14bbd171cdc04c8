"""How the page is reached: its addresses, who may come in, and the headers that make a browser wary."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import web

from ..api import Call, Raw
from ..auth import Credentials
from ..errors import ApiError, bad_request, not_found
from ..logs import Logs
from . import drawing, labelling, runs, session, views
from .render import environment

View = Callable[[Call], dict[str, Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Runs a view on the state thread, as one transaction, and gives its answer as JSON.
OnState = Callable[[View, web.Request, Any], Awaitable[Raw]]

FORM_LIMIT = 1 << 16
# How often a page reloads while something runs.
LIVE_SECONDS = 5
LOG_LINES = 1000
# No script, nothing from elsewhere, no frame: what a hostile name could still smuggle in has nothing to work with.
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# The login, and the style sheet that makes it legible.
OPEN = ("/login", "/login/style.css")
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

# The addresses that the SDK opens in a browser (`open_in_web`), and where the page shows the same.
ADDRESSES = {
    "/projects": "/",
    "/projects/{project_id}/datasets/{id}/items": "/datasets/{id}",
    "/projects/{project_id}/datasets/{dataset_id}/items/{id}": "/items/{id}",
    "/projects/{project_id}/tasks/{id}": "/tasks/{id}",
    "/projects/{project_id}/pipelines/{id}": "/pipelines/{id}",
    "/projects/{project_id}/model/{id}": "/models/{id}",
    "/projects/{project_id}/services/{id}/main": "/projects/{project_id}/executions",
    # The rest has no page of its own: lists, assignments, recipes, packages.
    "/projects/{project_id}/{kind}": "/projects/{project_id}",
    "/projects/{project_id}/{kind}/{id}": "/projects/{project_id}",
    "/projects/{project_id}/packages/{id}/main": "/projects/{project_id}",
}


def is_page(path: str) -> bool:
    """Say whether a path belongs to the page, and not to the SDK."""
    return path != "/token" and not path.startswith("/api/")


class Pages:
    """The page's routes.

    Parameters
    ----------
    credentials : Credentials
        What lets a browser in.
    logs : Logs
        What the services have logged.
    on_state : callable
        Runs a view on the state thread.
    thumbnail : callable
        Answers with the small picture of an item, as it does for the SDK.
    """

    def __init__(self, credentials: Credentials, logs: Logs, on_state: OnState, thumbnail: Handler) -> None:
        self.credentials = credentials
        self.logs = logs
        self.on_state = on_state
        self.thumbnail = thumbnail
        self.templates = environment()
        self.style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add all routes."""
        for path, (template, view) in PAGES.items():
            router.add_get(path, self._page(template, view))
        for path, target in ADDRESSES.items():
            router.add_get(path, _lead_to(target))
        router.add_get("/models/{model_id}", self._model)
        router.add_get("/executions/{execution_id}", self._execution)
        router.add_get("/items/{item_id}/content", self._content)
        router.add_get("/items/{item_id}/thumbnail", self.thumbnail)
        router.add_get("/annotations/{annotation_id}/mask", self._mask)
        router.add_get("/login", self._login_form)
        router.add_get("/login/style.css", self._style)
        router.add_post("/tasks/{task_id}/items/{item_id}/status", self._set_status)
        router.add_post("/login", self._login)
        router.add_post("/logout", self._logout)

    # ------------------------------------------------------------------------------------------------ who may

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request in or ask for the token, and add the headers that every answer bears."""
        if request.method == "GET" and "token" in request.query:
            answer: web.StreamResponse = self._enter_by_link(request)
        elif request.path in OPEN or self._admits(request):
            answer = await handler(request)
        else:
            message = "Log in to see this page." if _cookie(request) is None else "This log-in has ended."
            answer = self._ask(request, message, request.path_qs)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    def _admits(self, request: web.Request) -> bool:
        cookie = _cookie(request)
        if cookie is not None and session.is_session(self.credentials, cookie):
            return True
        return self.credentials.accepts(request.headers.get("Authorization"))

    def _enter_by_link(self, request: web.Request) -> web.Response:
        """Turn the key in a link into a cookie, and lead to the same address without the key."""
        rest = {name: value for name, value in request.query.items() if name != "token"}
        target = _inside(request.path + ("?" + urlencode(rest) if rest else ""))
        if not session.knows(self.credentials, request.query["token"]):
            return self._ask(request, "This link is of another platform, or of a former one.", target)
        return self._welcome(request, target)

    def _welcome(self, request: web.Request, target: str) -> web.Response:
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # From JupyterLab on 'localhost', say: a redirect would still count as the other site's, and the browser
            # would keep the cookie back. A page of ours that leads on does not.
            answer = self._html("welcome.html", {"target": target})
        else:
            answer = web.Response(status=303, headers={"Location": target})
        cookie = session.new_session(self.credentials)
        answer.set_cookie(_cookie_name(request), cookie, httponly=True, samesite="Strict", path="/")
        return answer

    def _ask(self, request: web.Request, message: str, target: str) -> web.Response:
        return self._html("login.html", {"message": message, "next": _inside(target)}, status=401)

    async def _login_form(self, request: web.Request) -> web.Response:
        return self._html("login.html", {"message": None, "next": _inside(request.query.get("next", "/"))})

    async def _login(self, request: web.Request) -> web.Response:
        form = await _form(request)
        if not session.knows(self.credentials, form.get("password", "").strip()):
            return self._ask(request, "That is not the token of this platform.", form.get("next", "/"))
        return self._welcome(request, _inside(form.get("next", "/")))

    async def _logout(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        answer = web.Response(status=303, headers={"Location": "/login"})
        answer.del_cookie(_cookie_name(request), httponly=True, samesite="Strict", path="/")
        return answer

    async def _checked_form(self, request: web.Request) -> dict[str, str]:
        """Read a form that a page of this session has sent, and no other site."""
        form = await _form(request)
        cookie = _cookie(request)
        if cookie is not None and not session.is_form_token(
            self.credentials, cookie, form.get("form_token", "")
        ):
            raise ApiError(
                403, "this form is not from this page, or from before a new log-in: load the page again"
            )
        return form

    # --------------------------------------------------------------------------------------------------- pages

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
        logs, total = await asyncio.to_thread(
            self.logs.last, str(execution["serviceId"]), execution["id"], LOG_LINES
        )
        return self._html("execution.html", shown | {"logs": logs, "logs_total": total}, request)

    async def _set_status(self, request: web.Request) -> web.Response:
        form = await self._checked_form(request)
        await self._view(labelling.set_status, request, form)
        return web.Response(status=303, headers={"Location": _inside(form.get("back", "/"))})

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
            "here": _inside(request.path_qs) if request is not None else "/",
            "refresh": LIVE_SECONDS if live else None,
        } | values
        text = self.templates.get_template(template).render(values)
        # A document may hold half a character (a lone surrogate), which has no UTF-8.
        body = text.encode(errors="replace")
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")

    def failure(self, status: int, message: str) -> web.Response:
        """Give the page for what did not work, with a way back."""
        answer = self._html("error.html", {"status": status, "message": message}, status=status)
        answer.headers.update(HEADERS)
        return answer

    async def _style(self, request: web.Request) -> web.Response:
        headers = {"Cache-Control": "private, max-age=300"}
        return web.Response(text=self.style, content_type="text/css", charset="utf-8", headers=headers)

    # --------------------------------------------------------------------------------------------------- bytes

    async def _content(self, request: web.Request) -> web.StreamResponse:
        """Send an item's bytes: pictures to be seen, everything else to be saved."""
        found = await self._view(views.content, request)
        headers = dict(_bytes_headers())
        if found["mimetype"] is None:
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Disposition"] = (
                f"attachment; filename*=UTF-8''{quote(found['name'], errors='replace')}"
            )
        else:
            headers["Content-Type"] = found["mimetype"]
        if not Path(found["path"]).is_file():  # deleted or overwritten since we looked
            raise not_found("the bytes of item", request.match_info["item_id"])
        return web.FileResponse(found["path"], headers=headers)

    async def _mask(self, request: web.Request) -> web.Response:
        annotation = await self._view(views.mask, request)
        return web.Response(
            body=drawing.mask_png(annotation), content_type="image/png", headers=dict(_bytes_headers())
        )


def _bytes_headers() -> dict[str, str]:
    # Whoever opens the file itself gets it in a box without rights.
    return {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=60"}


def _cookie_name(request: web.Request) -> str:
    # Cookies do not tell ports apart: two platforms side by side need two names.
    return f"{session.COOKIE}-{request.get_extra_info('sockname', ('', 0))[1]}"


def _cookie(request: web.Request) -> str | None:
    return request.cookies.get(_cookie_name(request))


def _lead_to(target: str) -> Handler:
    """Make a handler that leads to the address at which the page shows the same."""

    async def lead(request: web.Request) -> web.Response:
        parts = {name: quote(value, safe="") for name, value in request.match_info.items()}
        return web.Response(status=303, headers={"Location": target.format_map(parts)})

    return lead


def _inside(target: str) -> str:
    """Give an address on this page, whatever was asked for."""
    return target if _NEXT.fullmatch(target) else "/"


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise bad_request(f"a form of this page is sent urlencoded, got {request.content_type!r}")
    if (request.content_length or FORM_LIMIT + 1) > FORM_LIMIT:
        raise bad_request(f"a form of this page has at most {FORM_LIMIT} bytes, and says how many")
    try:
        return dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
    except UnicodeDecodeError as error:
        raise bad_request(f"the form is no UTF-8: {error}") from error
