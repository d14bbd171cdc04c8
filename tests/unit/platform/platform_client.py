"""A plain HTTP client for tests that start, kill and restart servers of their own, and transactions that are undone."""

import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request


class _Undo(Exception):
    pass


@contextlib.contextmanager
def undone(store):
    """A transaction that is rolled back at its end."""
    with contextlib.suppress(_Undo), store.transaction():
        yield
        raise _Undo


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Client:
    def __init__(self, url, token):
        self.api, self.token = url + "/api/v1", token

    def send(self, method, path, body=None, kind="application/json", raw=False):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        request = urllib.request.Request(self.api + path, data=data, headers=headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, json.loads(error.read())["message"]) from None
        return content if raw else json.loads(content)

    def project(self, name="p"):
        form = urllib.parse.urlencode({"name": name}).encode()
        return self.send("POST", "/projects", form, "application/x-www-form-urlencoded")

    def dataset(self, name="d"):
        return self.send("POST", "/datasets", {"name": name, "projects": [self.project(f"of-{name}")["id"]]})

    def upload(self, dataset_id, path, content, mode="skip"):
        form = (
            f'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\n{path}\r\n'
            '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        ).encode()
        kind = "multipart/form-data; boundary=b"
        return self.send(
            "POST", f"/datasets/{dataset_id}/items?mode={mode}", form + content + b"\r\n--b--\r\n", kind
        )

    def annotate(self, item_id, *annotations):
        return self.send("POST", f"/items/{item_id}/annotations", list(annotations))

    def stream(self, item_id):
        return self.send("GET", f"/items/{item_id}/stream", raw=True)
