"""The one organization, and the members of it and of projects."""

from typing import Any

from ...api import Call
from ...errors import ApiError, bad_request, not_found
from ...store import Document, created, now

ORGANIZATION = {"id": "00000000-0000-0000-0000-000000000000", "name": "local"}
PLANS = ("premium", "freemium")
# The field with the members of a project or an organization, and their roles.
MEMBERS = {"project": "contributors", "organization": "members"}
ROLES = {
    "project": ("owner", "engineer", "annotator", "annotationManager"),
    "organization": ("owner", "admin", "member", "worker"),
}


def organization(call: Call, org_id: str) -> Document:
    """Return the organization, which is made when it is first asked for."""
    if org_id != ORGANIZATION["id"]:
        raise not_found("organization", org_id)
    if found := call.store.find_one("organizations", id=org_id):
        return found
    found = {
        **ORGANIZATION,
        **created(call.user),
        "account": {"id": org_id},
        "members": [member(call.user, "owner")],
        "groups": [],
        "plan": "freemium",
        "owner": call.user,
        "logoUrl": None,
    }
    call.store.put("organizations", found)
    return found


def member(email: str, role: str) -> Document:
    """Build a member; the e-mail address is the id."""
    return {
        "id": email,
        "email": email,
        "username": email,
        "firstName": email.split("@")[0],
        "lastName": "",
        "avatar": None,
        "role": role,
        "type": "user",
        "org": ORGANIZATION["id"],
        **{key: value for key, value in created(email).items() if key != "creator"},
    }


def _checked_role(role: Any, kind: str) -> str:
    if role not in ROLES[kind]:
        raise bad_request(f"a member's role must be one of {', '.join(ROLES[kind])}, got {role!r}")
    return role


def add(kind: str, holder: Document, email: Any, role: Any) -> Document:
    """Add a member to a project or an organization; the caller writes it."""
    members = holder[MEMBERS[kind]]
    if not isinstance(email, str) or "@" not in email:
        raise bad_request(f"a member is named by an e-mail address, got {email!r}")
    if any(found["email"] == email.lower() for found in members):
        raise bad_request(f"{email!r} is a member of {kind} {holder['name']!r} already; update the role")
    members.append(member(email.lower(), _checked_role(role, kind)))
    return members[-1]


def change(kind: str, holder: Document, email: str, role: Any = None) -> Document:
    """Change the role of a member, or without a role remove the member; an owner must be left."""
    members, where = holder[MEMBERS[kind]], f"{kind} {holder['name']!r}"
    found = next((each for each in members if each["email"] == email.lower()), None)
    if found is None:
        known = ", ".join(each["email"] for each in members)
        raise ApiError(404, f"{email!r} is not a member of {where}; its members are {known}")
    if role is None:
        members.remove(found)
    else:
        found |= {"role": _checked_role(role, kind), "updatedAt": now()}
    if not any(each["role"] == "owner" for each in members):
        raise bad_request(f"{where} needs an owner: make another member an owner first")
    return found
