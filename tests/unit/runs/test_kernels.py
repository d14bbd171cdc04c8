"""When a forked kernel is ready, by messages that a test writes."""

import asyncio
import queue

import pytest

from alhelpers.runs.kernels import _ForkedClient


class Scripted(_ForkedClient):
    """Answers each request, and publishes what is listed for it."""

    published: list
    alive = True

    def kernel_info(self):
        self.asked = getattr(self, "asked", 0) + 1
        return f"request {self.asked}"

    async def _async_recv_reply(self, msg_id, timeout=None, channel="shell"):
        assert msg_id == f"request {self.asked}"
        if not self.published:
            raise TimeoutError

    async def get_iopub_msg(self, timeout=None):
        if not self.published:
            raise queue.Empty
        if (message := self.published.pop(0)) is None:
            raise queue.Empty
        request, state = message
        content = {"execution_state": state} if state else {"text": "hello"}
        return {"parent_header": {"msg_id": f"request {request}"} if request else {}, "content": content}

    async def _async_is_alive(self):
        return self.alive


@pytest.mark.parametrize(
    ("published", "asked"),
    [
        ([(0, "starting"), (1, "busy"), (0, None), (1, "idle")], 1),
        # The client was connected after the first answer: then it asks again, and what is left of the first is read.
        ([(1, "busy"), None, (1, "idle"), (2, "busy"), (2, "idle")], 2),
        ([None, None, (3, "idle")], 3),
    ],
)
def test_a_kernel_is_ready_when_it_is_idle_after_an_answer(published, asked):
    client = Scripted()
    client.published = published
    asyncio.run(client.wait_for_ready(timeout=30))
    assert client.asked == asked and not client.published


def test_a_kernel_that_never_answers_is_not_ready():
    client = Scripted()
    client.published = []
    with pytest.raises(RuntimeError, match="didn't respond in 0 seconds"):
        asyncio.run(client.wait_for_ready(timeout=0))
    client.alive = False
    with pytest.raises(RuntimeError, match="died before replying"):
        asyncio.run(client.wait_for_ready(timeout=30))
