"""Projects, their members, and settings."""

import pytest
from helpers_contract import MISSING, fails, get_json, not_found


def test_a_project_round_trips(dl, project):
    read = dl.projects.get(project_id=project.id)
    assert read.to_json() == get_json(dl, f"/projects/{project.id}")
    assert read.role == "owner" and read.system_project is False and read.archived is False
    assert read.createdAt == read.created_at == project.created_at
    assert [user.email for user in read.contributors] == [read.creator]


@pytest.mark.parametrize("name", ["a/b", "a\\b", "<b>", 'say "x"', "what?", "a\nb"])
def test_a_name_with_illegal_characters_is_refused(dl, name):
    fails(dl.exceptions.BadRequest, "Failed to create project.*illegal characters", dl.projects.create, name)
    not_found(dl, lambda: dl.projects.get(project_name=name))
    with pytest.raises(dl.exceptions.BadRequest):
        dl.projects.create(" ")


def test_the_other_characters_are_legal_in_a_name(dl, project):
    named = dl.projects.create(f"#$%^*| {project.id}")
    assert dl.projects.get(project_name=named.name).id == named.id


def test_a_project_is_found_by_id_and_by_name_only(dl, project):
    assert dl.projects.get(project_id=project.id).name == project.name
    assert dl.projects.get(project_name=project.name).id == project.id
    get = dl.projects.get
    not_found(dl, lambda: get(project_id=MISSING), lambda: get(project_name="no such name"))
    assert [each.id for each in dl.projects.list() if each.name == project.name] == [project.id]


def test_a_project_is_renamed(dl, project):
    before = project.name
    project.name = f"{before} renamed"
    assert project.update() is project
    read = dl.projects.get(project_id=project.id)
    assert read.name == f"{before} renamed" and read.created_at == project.created_at
    not_found(dl, lambda: dl.projects.get(project_name=before))
    fails(dl.exceptions.BadRequest, "Failed to create project", dl.projects.create, read.name)
    other = dl.projects.create(before)
    other.name = read.name
    fails(dl.exceptions.BadRequest, "exists", other.update)
    assert dl.projects.get(project_id=other.id).name == before


def test_a_project_is_deleted_by_its_owner_who_is_sure(dl, project):
    dataset = project.datasets.create("inside")
    with pytest.raises(dl.exceptions.Forbidden):
        project.delete()
    assert project.delete(sure=True, really=True) is True
    not_found(
        dl, lambda: dl.projects.get(project_id=project.id), lambda: dl.datasets.get(dataset_id=dataset.id)
    )
    assert project.id not in [each.id for each in dl.projects.list()]


def test_checkout(dl, project):
    try:
        dl.projects.checkout(project_name=project.name)
        assert dl.projects.get().id == project.id
        dl.projects.checkout(identifier=project.id)
        assert dl.projects.get().name == project.name
    finally:
        dl.client_api.state_io.put("project", None)


def test_members(dl, project):
    added = project.add_member(email="Ann@example.com", role=dl.MemberRole.ANNOTATOR)
    assert (added["email"], added["role"]) == ("ann@example.com", "annotator")
    members = {user.email: user.role for user in project.list_members()}
    assert members == {project.creator: "owner", "ann@example.com": "annotator"}
    assert [user.email for user in project.list_members(role=dl.MemberRole.ANNOTATOR)] == ["ann@example.com"]
    project.update_member(email="ann@example.com", role=dl.MemberRole.ANNOTATION_MANAGER)
    assert [user.role for user in project.list_members()] == ["owner", "annotationManager"]
    # A stale copy of the project does not undo what happened to its members.
    project.update()
    read = dl.projects.get(project_id=project.id)
    assert [user.email for user in read.contributors] == [project.creator, "ann@example.com"]
    assert project.remove_member(email="ann@example.com")["email"] == "ann@example.com"
    assert [user.email for user in project.list_members()] == [project.creator]


def test_what_members_cannot_be(dl, project):
    fails(dl.exceptions.BadRequest, "member of project .* already", project.add_member, email=project.creator)
    fails(dl.exceptions.BadRequest, "e-mail address", project.add_member, email="nobody")
    fails(ValueError, "Unknown role", project.add_member, email="x@example.com", role="king")
    for change in (project.update_member, project.remove_member):
        fails(dl.exceptions.NotFound, "not a member of project", change, email="x@example.com")
    fails(dl.exceptions.BadRequest, "needs an owner", project.remove_member, email=project.creator)
    with pytest.raises(dl.exceptions.BadRequest, match="needs an owner"):
        project.update_member(email=project.creator, role=dl.MemberRole.ANNOTATOR)
    assert [user.role for user in project.list_members()] == ["owner"]


def test_there_is_no_system_project_and_no_driver(dl, project):
    fails(dl.exceptions.NotFound, "System project not found", dl.projects.get_system_project)
    assert list(project.drivers.list()) == []
    get = project.drivers.get
    not_found(dl, lambda: get(driver_name="s3"), lambda: get(driver_id=MISSING))


def test_settings(dl, project):
    given = {"setting_value": 3, "setting_value_type": dl.SettingsValueTypes.NUMBER}
    made = project.settings.create(setting_name="rounds", **given)
    assert (made.name, made.value, made.scope.type, made.scope.id) == ("rounds", 3, "project", project.id)
    assert project.settings.get(setting_id=made.id).to_json() == made.to_json()
    assert project.settings.get(setting_name="rounds").id == made.id
    assert [each.name for each in project.settings.list().all()] == ["rounds"]
    made.value = 4
    assert project.settings.update(setting=made).value == 4
    project.settings.update(setting_id=made.id, setting_name="rounds", setting_value=5)
    assert project.settings.get(setting_id=made.id).value == 5
    assert made.delete() is True
    get = project.settings.get
    not_found(dl, lambda: get(setting_id=made.id), lambda: get(setting_name="rounds"))


def test_settings_that_cannot_be(dl, project):
    def create(value, kind="number", name="n"):
        return project.settings.create(setting_name=name, setting_value=value, setting_value_type=kind)

    create(1)
    fails(dl.exceptions.BadRequest, "'n' exists", create, 2)
    fails(dl.exceptions.BadRequest, "holds a number, got 'x'", create, "x", name="other")
    fails(dl.exceptions.BadRequest, "'valueType' must be one of", create, "x", kind="picture", name="other")
    assert project.settings.list().items_count == 1


def test_the_narrower_setting_holds(dl, project):
    dataset = project.datasets.create("d")
    for kind, resource, value in (("project", project, "wide"), ("dataset", dataset, "narrow")):
        rights = {"role": dl.Role.ALL, "prevent_override": False, "visible": True}
        scope = dl.SettingScope(type=kind, id=resource.id, **rights)
        about = {"value_type": dl.SettingsValueTypes.STRING, "scope": scope, "section_name": "SDK"}
        setting = dl.Setting(name="how", value=value, **about)
        project.settings.create(setting=setting)
    held = dataset.settings.resolve(user_email="a@example.com", project_id=project.id)
    assert [(each.name, each.value) for each in held] == [("how", "narrow")]
    held = project.settings.resolve(user_email="a@example.com")
    assert [(each.name, each.value) for each in held] == [("how", "wide")]
