"""Organizations and the records that belong to them: integrations, drivers, webhooks, bots, computes."""

import base64
import json
import os
import warnings

import pytest
from helpers_contract import MISSING, get_json, not_found, refused, send

SECRET = "a-secret-that-nobody-sees"


@pytest.fixture
def org(dl, project):
    return dl.organizations.get(organization_id=project.org["id"])


def test_the_organization_and_its_projects(dl, project, org):
    assert [each.id for each in dl.organizations.list()] == [org.id]
    assert dl.organizations.get(organization_name=org.name).to_json() == org.to_json()
    assert project.id in [each.id for each in org.projects.list()]
    assert org.list_groups() == []
    assert org.update(plan="premium").id == org.id
    assert dl.organizations.get(organization_id=org.id).plan == "premium"
    not_found(dl, lambda: dl.organizations.get(organization_id=MISSING))


def test_members_of_the_organization(dl, org):
    assert org.add_member(email=["Ann@example.com", "bob@example.com"], role=dl.MemberOrgRole.MEMBER)
    assert org.update_member(email="ann@example.com", role=dl.MemberOrgRole.ADMIN)["role"] == "admin"
    assert [each.email for each in org.list_members(role=dl.MemberOrgRole.ADMIN)] == ["ann@example.com"]
    with pytest.raises(dl.exceptions.BadRequest, match="already"):
        org.add_member(email="bob@example.com", role=dl.MemberOrgRole.MEMBER)
    for email in ("ann@example.com", "bob@example.com"):
        assert org.delete_member(user_id=email, sure=True, really=True)
    (owner,) = org.list_members()
    assert owner.role == "owner"
    with pytest.raises(dl.exceptions.BadRequest, match="needs an owner"):
        org.delete_member(user_id=owner.email, sure=True, really=True)
    with pytest.raises(dl.exceptions.NotFound, match="not a member"):
        org.update_member(email="nobody@example.com", role=dl.MemberOrgRole.ADMIN)


def test_integrations_and_drivers(dl, project, org):
    made = project.integrations.create(dl.IntegrationType.S3, "bucket", {"key": "k", "secret": SECRET})
    assert (made.type, made.org, made.name) == ("s3", org.id, "bucket")
    read = project.integrations.get(integrations_id=made.id)
    assert read.to_json() == made.to_json()
    made.update(new_name="renamed", new_options={"key": "k", "secret": SECRET}, reload_services=False)
    assert org.integrations.get(integrations_id=made.id).name == "renamed"
    others = (
        project.integrations.create_nfs("nfs", "10.0.0.1", "share"),
        project.integrations.create_hostpath("host", "data"),
        project.integrations.create_s3_compatible_api("s3", "k", SECRET, "http://127.0.0.1:1"),
    )
    assert others[0].metadata["path"] == "/share" and others[2].metadata["authMethod"] == "key-secret"
    listed = {each["id"] for each in project.integrations.list(only_available=True)}
    assert (
        listed
        == {each["id"] for each in dl.organizations.list_integrations(organization=org)}
        >= {made.id, *(o.id for o in others)}
    )

    drivers = project.drivers
    driver = drivers.create(
        "s3", dl.ExternalStorage.S3, made.id, "my-bucket", made.type, region="eu", path="a"
    )
    assert (driver.bucket_name, driver.region, driver.path) == ("my-bucket", "eu", "a")
    assert drivers.get(driver_id=driver.id).created_at == drivers.get(driver_name="s3").created_at
    stored = drivers.create_storage_driver("storage", others[0], directory="sub")
    assert stored.directory == "/sub" and {each.id for each in drivers.list()} == {driver.id, stored.id}
    with pytest.raises(dl.exceptions.NotFound, match="integration not found"):
        drivers.create("x", dl.ExternalStorage.S3, MISSING, "b", made.type)
    # Its items would lie where this server cannot reach.
    with pytest.raises(dl.exceptions.NotFound, match="not emulated offline: datasets on external storage"):
        project.datasets.create("outside", driver=driver)
    assert drivers.delete(driver_name="s3", sure=True, really=True)
    not_found(dl, lambda: drivers.get(driver_id=driver.id))
    assert made.delete(sure=True, really=True)
    not_found(dl, lambda: project.integrations.get(integrations_id=made.id))


def test_a_secret_is_neither_stored_nor_returned_nor_logged(dl, platform, project):
    made = project.integrations.create(dl.IntegrationType.KEY_VALUE, "key", {"key": "k", "value": SECRET})
    made.update(new_options={"key": "k", "value": SECRET}, reload_services=True)
    path = f"/orgs/{project.org['id']}/integrations"
    refused(dl, "post", path, {"name": "x", "type": "s3", "options": [SECRET]}, "'options'")
    answers = [get_json(dl, f"{path}/{made.id}"), get_json(dl, path)]
    assert SECRET not in json.dumps(answers)
    for folder, _, names in os.walk(platform.state_dir):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert SECRET.encode() not in file.read(), name


@pytest.mark.parametrize("registry", ["gar", "docker_hub", "azure_container_registry", "ecr"])
def test_options_of_private_registries(dl, project, registry):
    options = {
        "gar": ("account", "europe"),
        "docker_hub": ("me", "password"),
        "azure_container_registry": ("me", "password", "mine.azurecr.io"),
        "ecr": ("id", "key", "account", "region"),
    }[registry]
    built = getattr(project.integrations, f"generate_{registry}_options")(*options)
    made = project.integrations.create(dl.IntegrationType.PRIVATE_REGISTRY, registry, built)
    assert made.name == registry and "options" not in get_json(dl, f"/orgs/{made.org}/integrations/{made.id}")


def test_webhooks(dl, project):
    hook = project.webhooks
    made = hook.create("ring", http_method="POST", hook_url="https://example.invalid/hook")
    assert hook.get(webhook_id=made.id).to_json() == made.to_json()
    assert made.id in [each.id for each in hook.list().all()]
    made.name = f"ring-{project.id}"
    assert hook.update(made).name == made.name
    assert hook.delete(webhook_id=made.id) is True
    not_found(dl, lambda: hook.get(webhook_id=made.id))


def test_bots(dl, project):
    made = send(dl, "post", f"/projects/{project.id}/bots", {"name": "helper"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert project.bots.create("another") is None  # the SDK sends nothing
        (bot,) = project.bots.list()
        assert (bot.id, bot.name, bot.type) == (made["id"], "helper", "bot")
        assert project.bots.get(bot_name="helper").email == bot.email
        assert project.bots.delete(bot_email=bot.email)
    assert list(project.bots.list()) == []


@pytest.fixture
def context(dl, org):
    return dl.ComputeContext(labels=[], org=org.id)


CLUSTER = {
    "name": "cluster",
    "endpoint": "https://127.0.0.1:1",
    "kubernetesVersion": "1.30",
    "provider": "local",
    "nodePools": [],
}


def test_computes(dl, org, context, tmp_path):
    made = dl.computes.create("mine", context, [], dl.ComputeCluster.from_json(CLUSTER), metadata={"a": 1})
    assert dl.computes.get(compute_id=made.id).to_json() == made.to_json()
    assert made.cluster.name == "cluster" and made.status == "ready"
    made.name = "renamed"
    assert made.update().name == dl.computes.validate(compute_id=made.id).name == "renamed"
    shared = dl.computes.create("shared", context, [], dl.ComputeCluster.from_json(CLUSTER), is_global=True)
    assert [each["id"] for each in dl.computes.list_global()] == [shared.id]
    assert {each.id for each in dl.computes.list().all()} == {made.id, shared.id}
    assert made.delete() and dl.computes.delete(shared.id, skip_destroy=True)
    not_found(dl, lambda: dl.computes.get(compute_id=made.id))
    assert dl.computes.get(compute_id=made.id, archived=True).name == "renamed"
    assert dl.computes.list().items_count == 0 and dl.computes.list_global() == []

    config = {"config": CLUSTER | {"name": "of a file"}, "authentication": {"token": SECRET}}
    (tmp_path / "config").write_bytes(base64.b64encode(json.dumps(config).encode()))
    assert dl.computes.decode_and_parse_input(str(tmp_path / "config")) == config
    assert base64.b64decode(dl.computes.read_file(str(tmp_path / "config")))
    integration = dl.computes.create_integration(org, "login", {"token": SECRET})
    for built in (
        dl.computes.setup_compute_cluster(config, integration, org.id),
        dl.computes.create_from_config_file(str(tmp_path / "config"), org.id),
    ):
        assert built.cluster.authentication.integration.type == "key_value"
        assert SECRET not in json.dumps(get_json(dl, f"/compute/{built.id}"))
        built.delete()


def test_service_drivers(dl, org, context):
    compute = dl.computes.create("for drivers", context, [], dl.ComputeCluster.from_json(CLUSTER))
    drivers = dl.service_drivers
    made = drivers.create("driver", compute.id, context, namespace="space")
    assert drivers.get(made.id).to_json() == made.to_json()
    assert (made.type, made.namespace, made.compute_id) == ("kubernetes", "space", compute.id)
    made.namespace = "other"
    assert drivers.update(made).namespace == "other"
    assert drivers.set_default(made.id, org.id).id == drivers.set_default("driver", org.id).id == made.id
    assert [each.id for each in drivers.list().all()] == [made.id]
    not_found(
        dl, lambda: drivers.create("x", MISSING, context), lambda: drivers.set_default("unknown", org.id)
    )
    assert drivers.delete(made.id) is True
    not_found(dl, lambda: drivers.get(made.id))
