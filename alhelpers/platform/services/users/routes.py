"""Routes of the logged-in user."""

from ...api import Call, Route


def me(call: Call) -> dict[str, object]:
    return {
        "id": call.user,
        "email": call.user,
        "name": "Local",
        "lastName": "User",
        "username": call.user,
        "type": "user",
        "role": "owner",
        "avatar": "",
        "createdAt": "1970-01-01T00:00:00.000Z",
        "updatedAt": "1970-01-01T00:00:00.000Z",
    }


ROUTES = [Route("GET", "/users/me", me)]
