"""A service for the tests of executions: a function for each thing that may happen."""

import faulthandler
import logging
import os
import subprocess
import sys
import time

import dtlpy as dl
import helper

logger = logging.getLogger("functions")


class ServiceRunner(dl.BaseServiceRunner):
    def __init__(self, greeting="hello", base=None):
        self.greeting, self.base = greeting, base
        self.calls = 0

    def run(self, item=None):
        return item

    def double(self, x, progress=None):
        self.calls += 1
        print(self.greeting, x)
        logger.info("logged %s", x)
        progress.update(progress=50, message="half way", action="big" if x > 10 else "small")
        return x * helper.FACTOR

    def kinds(self, **inputs):
        return {name: helper.kind(value) for name, value in inputs.items()}

    def several(self, item, items):
        return item, items

    def context(self, context, progress):
        return {
            "service": context.service.id,
            "project": context.project.id,
            "execution": context.execution_id,
            "same": context.execution.id == progress.execution_id,
            "calls": self.calls,
            "base": helper.kind(self.base),
        }

    def fail(self):
        raise ValueError("the cat is out")

    def leave(self):
        sys.exit(3)

    def say_failed(self, progress):
        progress.update(status="failed", message="said so")

    def chatter(self, times, progress):
        for step in range(times):
            progress.update(message=f"step {step}")

    def no_json(self):
        return object()

    def crash(self, path=None):
        # With a path: only the first time.
        if path is None or not os.path.exists(path):
            if path is not None:
                open(path, "w").close()
            os._exit(7)
        return "survived"

    def sleep(self, seconds, path):
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
        return "slept"

    def child(self, path):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(path, "w") as file:
            file.write(str(process.pid))
        process.wait()

    def noise(self):
        os.write(1, b"below python\n")
        print("no line break", end="")
        sys.stderr.write("an error line\n")
        sys.stdout.buffer.write("bytes \N{SNOWMAN} of a line\n".encode())
        faulthandler.enable()
        subprocess.run([sys.executable, "-c", "print('a child')"], stdout=sys.stdout, check=True)
        return {"cwd": os.getcwd(), "argv": sys.argv, "environ": dict(os.environ)}
