from dataclasses import replace

from ...api import Call, Raw, Route, listed, one, paged
from ...errors import bad_request, not_found
from ...query import MAX_PAGE, Page
from ...resources import everywhere, plain
from ...store import Document, now
from ...validation import require, whole_number
from ..exports.models import finished
from . import models

# -------------------------------------------------------------------------------------------------- organization


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


def list_groups(call: Call) -> list[Document]:
    return get(call)["groups"]


def list_members(call: Call) -> list[Document]:
    return get(call)["members"]


def add_members(call: Call) -> list[Document]:
    organization, body = get(call), require(call.body)
    emails = body.get("emails")
    if not isinstance(emails, list) or not emails:
        raise bad_request(f"'emails' must be a list of addresses, got {emails!r}")
    added = [models.add("organization", organization, email, body.get("role")) for email in emails]
    _changed(call, organization)
    return added


def update_member(call: Call) -> Document:
    body = require(call.body, "email", "role")
    return _change_member(call, body["email"], body["role"])


def remove_member(call: Call) -> Document:
    return _change_member(call, call.params["email"], None)


def _change_member(call: Call, email: str, role: str | None) -> Document:
    organization = get(call)
    member = models.change("organization", organization, email, role)
    _changed(call, organization)
    return member


# -------------------------------------------------------------------------------------------------- integrations


def forget_secret(call: Call, integration: Document) -> None:
    """Check the options of an integration, and drop them: nothing here connects with them, so they are never stored."""
    models.organization(call, integration["org"])
    if not isinstance(integration.pop("options", None), dict | None):
        raise bad_request("'options' of an integration must be an object")


def list_integrations(call: Call) -> Raw:
    return listed(call, "integrations", call.store.find("integrations", org=get(call)["id"], order="-id"))


def update_integration(call: Call) -> Raw:
    """Change the integration that the body names."""
    body = require(call.body, "integrationId")
    options = require(body.get("credentials") or {}).get("options")
    assert INTEGRATIONS.update is not None
    integration = call.store.get("integrations", body["integrationId"])
    INTEGRATIONS.update(call, integration, body | {"options": options})
    return one(call, "integrations", integration["id"])


# --------------------------------------------------------------------------------------- drivers, webhooks and bots


def complete_driver(call: Call, driver: Document) -> None:
    """Check what a driver refers to; the SDK reads what is in its payload beside the other fields."""
    system = require(require(driver.get("metadata")).get("system"), "projectId")
    driver["projectId"] = call.store.row("projects", system["projectId"]).id
    call.store.row("integrations", driver["integrationId"])
    driver |= {key: value for key, value in require(driver.get("payload") or {}).items() if key not in driver}


def list_drivers(call: Call) -> Raw:
    project_id = call.store.row("projects", call.query.get("projectId", "")).id
    return listed(call, "drivers", call.store.find("drivers", projectId=project_id, order="-id"))


def check_webhook(call: Call, webhook: Document) -> None:
    call.store.row("projects", webhook["project"])


def list_webhooks(call: Call) -> Raw:
    page, size = (whole_number(call.query, *each) for each in (("pageOffset", 0), ("pageSize", 100)))
    rows = list(call.store.find("webhooks", order="-id"))
    return paged(call, "webhooks", Page.of(rows, page, min(size, MAX_PAGE)))


def complete_bot(call: Call, bot: Document) -> None:
    call.store.row("projects", bot["projectId"])
    address = models.member(f"{bot['id']}@bot.invalid", "engineer")
    bot |= address | {"id": bot["id"], "type": "bot", "firstName": bot["name"]}


def list_bots(call: Call) -> Raw:
    project_id = call.store.row("projects", call.params["projectId"]).id
    return listed(call, "bots", call.store.find("bots", projectId=project_id, order="-id"))


# ------------------------------------------------------------------------------------------------------ computes


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


def delete_compute(call: Call) -> Raw:
    """Archive a compute: the SDK reads it once more after the command of its destruction."""
    compute = call.store.get("computes", call.params["id"])
    call.store.put("computes", compute | {"archived": True, "updatedAt": now()})
    return finished(call, "DestroyCompute", {"computeId": compute["id"]})


def list_global_computes(call: Call) -> Raw:
    rows = call.store.find("computes", archived=False)
    return listed(call, "computes", [row for row in rows if call.store.parsed(row)["global"]])


def complete_service_driver(call: Call, driver: Document) -> None:
    compute = call.store.row("computes", driver["computeId"], "compute")
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


WEBHOOK = ("name", "project", "httpMethod", "hookUrl")
DRIVER = ("name", "type", "integrationId", "integrationType", "metadata", "payload", "allowExternalDelete")
CONTEXT = ("name", "context", "type", "metadata", "settings")
COMPUTE = (*CONTEXT, "sharedContexts", "global", "status", "features", "cluster", "deploymentConfiguration")
SERVICE_DRIVER = (*CONTEXT, "computeId", "namespace", "isCacheAvailable")

INTEGRATIONS = plain(
    *("integrations", "/orgs/{org}/integrations"),
    *(("name", "type", "options", "metadata"), ("name", "type"), forget_secret),
)
COMPUTES = replace(
    plain("computes", "/compute", COMPUTE, check=complete_compute, query=lambda call: {"archived": False}),
    delete=None,
    answer=shown_compute,
)
SERVICE_DRIVERS = plain(
    *("service_drivers", "/serviceDrivers", SERVICE_DRIVER, ("name", "computeId")),
    *(complete_service_driver, everywhere),
)
ROUTES = [
    Route("GET", "/orgs", list_all),
    Route("GET", "/orgs/{org}", get),
    Route("PATCH", "/orgs/{org}/plan", set_plan),
    Route("GET", "/orgs/{org}/groups", list_groups),
    Route("GET", "/orgs/{org}/members", list_members),
    Route("POST", "/orgs/{org}/members", add_members),
    Route("PATCH", "/orgs/{org}/members", update_member),
    Route("DELETE", "/orgs/{org}/members/{email}", remove_member),
    Route("GET", "/orgs/{org}/integrations", list_integrations),
    Route("GET", "/orgs/{org}/availableIntegrations", list_integrations),
    Route("PATCH", "/orgs/{org}/integrations", update_integration),
    *INTEGRATIONS.routes,
    Route("GET", "/drivers", list_drivers),
    *plain("drivers", "/drivers", DRIVER, ("name", "type", "integrationId"), complete_driver).routes,
    Route("GET", "/webhooks", list_webhooks),
    *plain("webhooks", "/webhooks", WEBHOOK, ("name", "project", "hookUrl"), check_webhook).routes,
    Route("GET", "/projects/{projectId}/bots", list_bots),
    *plain("bots", "/projects/{projectId}/bots", ("name",), check=complete_bot).routes,
    Route("GET", "/compute/globals", list_global_computes),
    Route("POST", "/compute/{id}/validate", COMPUTES.get),
    Route("DELETE", "/compute/{id}", delete_compute),
    *COMPUTES.routes,
    Route("POST", "/serviceDrivers/default", set_default_driver),
    *SERVICE_DRIVERS.routes,
]
