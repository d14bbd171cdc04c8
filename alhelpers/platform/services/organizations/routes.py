from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ...api import Call, Raw, Route, listed, one, paged_by_url
from ...errors import bad_request, not_found
from ...resources import everywhere, plain
from ...store import Document, now
from ...validation import require
from ..exports.models import finished
from . import models


def me(call: Call) -> Document:
    return models.member(call.user, "owner") | {"name": "Local", "lastName": "User"}


def list_all(call: Call) -> list[Document]:
    return [models.organization(call, models.ORGANIZATION["id"])]


def get(call: Call) -> Document:
    return models.organization(call, call.params["org"])


def _changed(call: Call, organization: Document) -> Document:
    call.store.put("organizations", organization | {"updatedAt": now()})
    return organization


def set_plan(call: Call) -> Document:
    plan = require(call.body).get("plan")
    if plan not in models.PLANS:
        raise bad_request(f"'plan' must be one of {', '.join(models.PLANS)}, got {plan!r}")
    return _changed(call, get(call) | {"plan": plan})


def add_members(call: Call) -> list[Document]:
    organization, body = get(call), require(call.body)
    emails = body.get("emails")
    if not isinstance(emails, list) or not emails:
        raise bad_request(f"'emails' must be a list of addresses, got {emails!r}")
    added = [models.add("organization", organization, email, body.get("role")) for email in emails]
    _changed(call, organization)
    return added


def member_routes(kind: str, path: str, changing: str, holder: Callable[[Call], Document]) -> list[Route]:
    """Build the routes that list, change and remove the members of what `holder` returns."""

    def list_members(call: Call) -> list[Document]:
        return holder(call)[models.MEMBERS[kind]]

    def change(call: Call, *, remove: bool = False) -> Document:
        found, body = holder(call), {} if remove else require(call.body, "role")
        email = call.params.get("email") or require(body, "email")["email"]
        member = models.change(kind, found, email, body.get("role"))
        call.store.put(f"{kind}s", found)
        return member

    return [
        Route("GET", path, list_members),
        Route("PATCH", changing, change),
        Route("DELETE", f"{path}/{{email}}", partial(change, remove=True)),
    ]


def forget_secret(call: Call, integration: Document) -> None:
    """Check the options of an integration, and drop them: nothing here connects with them, so they are never stored."""
    models.organization(call, integration["org"])
    if not isinstance(integration.pop("options", None), dict | None):
        raise bad_request("'options' of an integration must be an object")


def update_integration(call: Call) -> Raw:
    body = require(call.body, "integrationId")
    options = require(body.get("credentials") or {}).get("options")
    integration = call.store.get("integrations", body["integrationId"])
    INTEGRATIONS.update(call, integration, body | {"options": options})
    return one(call, "integrations", integration["id"])


def complete_driver(call: Call, driver: Document) -> None:
    """Check what a driver refers to; the SDK reads what is in its payload beside the other fields."""
    system = require(require(driver.get("metadata")).get("system"), "projectId")
    driver["projectId"] = call.store.row("projects", system["projectId"]).id
    call.store.row("integrations", driver["integrationId"])
    driver |= {key: value for key, value in require(driver.get("payload") or {}).items() if key not in driver}


def in_project(call: Call) -> Document:
    """Limit a list to the project in the path or the query string."""
    given = call.params.get("projectId") or call.query.get("projectId", "")
    return {"projectId": call.store.row("projects", given).id}


def check_webhook(call: Call, webhook: Document) -> None:
    call.store.row("projects", webhook["project"])


def list_webhooks(call: Call) -> Raw:
    return paged_by_url(call, "webhooks", call.store.find("webhooks", order="-id"))


def complete_bot(call: Call, bot: Document) -> None:
    call.store.row("projects", bot["projectId"])
    address = models.member(f"{bot['id']}@bot.invalid", "engineer")
    bot |= address | {"id": bot["id"], "type": "bot", "firstName": bot["name"]}


def complete_compute(call: Call, compute: Document) -> None:
    """Add the defaults of a compute. It is a record: services run on this machine whatever computes there are."""
    require(compute.get("context"))
    compute |= {"type": "kubernetes", "status": "ready", "global": False, "archived": False} | compute


def shown_compute(call: Call, compute_id: str) -> Raw:
    """Return a compute; a deleted one only with ``?archived=true``."""
    row = call.store.row("computes", compute_id)
    if call.store.parsed(row)["archived"] and call.query.get("archived") != "true":
        raise not_found("compute", row.id)
    return one(call, "computes", row.id)


def delete_compute(call: Call, compute: Document) -> Raw:
    """Archive a compute: the SDK reads it once more after the command of its destruction."""
    call.store.put("computes", compute | {"archived": True, "updatedAt": now()})
    return finished(call, "DestroyCompute", {"computeId": compute["id"]})


def list_global_computes(call: Call) -> Raw:
    rows = call.store.find("computes", archived=False)
    return listed(call, "computes", [row for row in rows if call.store.parsed(row)["global"]])


def complete_service_driver(call: Call, driver: Document) -> None:
    compute = call.store.row("computes", driver["computeId"])
    driver.setdefault("type", call.store.parsed(compute)["type"])


def set_default_driver(call: Call) -> Raw:
    """Make a service driver the default of the organization; it is named by its id or its name."""
    body = require(call.body, "organizationId", "driverName")
    organization = models.organization(call, body["organizationId"])
    named = body["driverName"]
    row = call.store.first("service_drivers", id=named) or call.store.first("service_drivers", name=named)
    if row is None:
        raise not_found("service driver", named)
    _changed(call, organization | {"defaultServiceDriver": row.id})
    return one(call, "service_drivers", row.id)


MEMBERS = "/orgs/{org}/members"
WEBHOOK = ("name", "project", "httpMethod", "hookUrl")
DRIVER = ("name", "type", "integrationId", "integrationType", "metadata", "payload", "allowExternalDelete")
CONTEXT = ("name", "context", "type", "metadata", "settings")
COMPUTE = (*CONTEXT, "sharedContexts", "global", "status", "features", "cluster", "deploymentConfiguration")
SERVICE_DRIVER = (*CONTEXT, "computeId", "namespace", "isCacheAvailable")

INTEGRATIONS = plain(
    *("integrations", "/orgs/{org}/integrations"),
    *(("name", "type", "options", "metadata"), ("name", "type"), forget_secret),
    listing=lambda call: {"org": get(call)["id"]},
)
DRIVERS = plain(
    *("drivers", "/drivers", DRIVER, ("name", "type", "integrationId"), complete_driver),
    listing=in_project,
)
COMPUTES = replace(
    plain("computes", "/compute", COMPUTE, check=complete_compute, query=lambda call: {"archived": False}),
    delete=None,
    answer=shown_compute,
)
SERVICE_DRIVERS = plain(
    *("service_drivers", "/serviceDrivers", SERVICE_DRIVER, ("name", "computeId")),
    check=complete_service_driver,
    query=everywhere,
)
ROUTES = [
    Route("GET", "/users/me", me),
    Route("GET", "/orgs", list_all),
    Route("GET", "/orgs/{org}", get),
    Route("PATCH", "/orgs/{org}/plan", set_plan),
    Route("GET", "/orgs/{org}/groups", lambda call: get(call)["groups"]),
    Route("POST", MEMBERS, add_members),
    *member_routes("organization", MEMBERS, MEMBERS, get),
    Route("GET", "/orgs/{org}/availableIntegrations", INTEGRATIONS.list_all),
    Route("PATCH", "/orgs/{org}/integrations", update_integration),
    *INTEGRATIONS.routes,
    *DRIVERS.routes,
    Route("GET", "/webhooks", list_webhooks),
    *plain("webhooks", "/webhooks", WEBHOOK, ("name", "project", "hookUrl"), check_webhook).routes,
    *plain("bots", "/projects/{projectId}/bots", ("name",), check=complete_bot, listing=in_project).routes,
    Route("GET", "/compute/globals", list_global_computes),
    Route("POST", "/compute/{id}/validate", COMPUTES.get),
    Route("DELETE", "/compute/{id}", COMPUTES.doing(delete_compute)),
    *COMPUTES.routes,
    Route("POST", "/serviceDrivers/default", set_default_driver),
    *SERVICE_DRIVERS.routes,
]
