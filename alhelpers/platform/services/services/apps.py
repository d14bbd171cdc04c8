"""The services that installed apps bring, and what becomes of them with their app."""

from typing import Any

from ...errors import ApiError
from ...store import Store, require
from . import models


def install(store: Store, app: dict[str, Any], user: str) -> None:
    """Make the services that an app's manifest lists, or bring them up to a new version of it.

    Raises
    ------
    ApiError
        424, when a component is wrong, or its name is taken by a service of someone else.
    """
    for component in components(app):
        try:
            require(component, "name")
            _install_one(store, app, component, user)
        except ApiError as error:
            raise ApiError(424, f"error installing an app: Validation Failed: {error.message}") from error


def components(app: dict[str, Any]) -> list[dict[str, Any]]:
    """List the services in an app's manifest, or in its custom installation."""
    chosen = (app.get("customInstallation") or {}).get("components") or {}
    found = chosen if "services" in chosen else app["dpk"].get("components") or {}
    return found.get("services") or []


def _install_one(store: Store, app: dict[str, Any], component: dict[str, Any], user: str) -> None:
    name = component["name"]
    existing = store.find("services", "scope = ? AND name = ?", app["projectId"], name)
    if existing is not None and (existing.get("app") or {}).get("id") != app["id"]:
        raise ApiError(424, f"a service named {name!r} exists in the project already")
    config = {key: value for key, value in component.items() if key in models.SETTINGS}
    named = models.config_of(app["dpk"], component.get("computeConfig"))
    module = config.pop("moduleName", None)
    models.ensure(
        store,
        project_id=app["projectId"],
        name=name,
        package=app["dpk"],
        user=user,
        module=module,
        app=app,
        component=name,
        **({"runtime": models.RUNTIME | {"concurrency": 1}} | named | config),
    )


def of_app(store: Store, app: dict[str, Any]) -> list[dict[str, Any]]:
    """List the services that belong to an app: those of its manifest, and those of its models and nodes."""
    rows = store.select("services", "scope = ?", (app["projectId"],), "ORDER BY id")
    return [
        store.get("services", row.id)
        for row in list(rows)
        if (store.parsed(row).get("app") or {}).get("id") == app["id"]
    ]
