"""One service in this process: its instance and the calls of its functions."""

import ctypes
import inspect
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dtlpy as dl

from ..auth import CAUSE_HEADER
from . import code, values
from .reporting import CURRENT, Printed, Reporter

# The SDK stops following a log at the line with END_LINE.
START_LINE = "[Start] Executing function."
END_LINE = "[Done] Executing function."
# A smaller step of progress is not worth an entry in the status log.
SMALLEST_STEP = 5


class Progress(dl.Progress):
    """Reports a function's progress, and the action with which it leaves a pipeline's node."""

    def __init__(self, reporter: Reporter, execution_id: str) -> None:
        self.logger = logging.getLogger("progress")
        self.execution_id = execution_id
        self.failed: str | None = None
        self._reporter = reporter
        self._percent = 0

    def update(
        self,
        status: str | None = None,
        progress: int = 0,
        message: str | None = None,
        output: Any = None,
        duration: float | None = None,
        action: str | None = None,
    ) -> None:
        """Send progress to the server; see ``dl.Progress.update``."""
        if status in ("failed", "error"):
            self.failed = message or "the function reported its failure"
        step = max(0, min(int(progress or 0), 100)) - self._percent
        if status is None and output is None and action is None and 0 < step < SMALLEST_STEP:
            return
        self._percent = max(self._percent, self._percent + step)
        self._reporter.send(
            "progress",
            id=self.execution_id,
            percent=self._percent,
            message=None if message is None else str(message),
            output=None if output is None else values.pack(output),
            action=None if action is None else str(action),
        )


class Runner:
    """A service whose code is loaded into an empty folder, from the server's first message."""

    def __init__(self, setup: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        self.reporter = reporter
        self.module = setup["module"]
        self.service = dl.Service.from_json(setup["service"], dl.client_api)
        self._package = setup["package"]
        self._threads: dict[str, int] = {}
        _name_sender(reporter)
        codebase = setup["codebase"]
        home = code.fetch(codebase, folder)
        python = code.load(self.module.get("entryPoint"), home, codebase.get("why", ""))
        service_class = code.find_class(python, self.module.get("className"))
        self.target = python if service_class is None else self._create(service_class)

    def _create(self, service_class: type) -> Any:
        given = self.service.init_input or {}
        declared = {each["name"]: each for each in self.module.get("initInputs") or []}
        arguments = {}
        for name in declared.keys() | given.keys():
            spec = declared.get(name, {})
            if name in given or spec.get("value") is not None:
                value = given.get(name, spec.get("value"))
                arguments[name] = values.resolve(name, spec.get("type"), value)
        parameters = inspect.signature(service_class).parameters
        if not _takes_any(parameters):
            arguments = {name: value for name, value in arguments.items() if name in parameters}
        instance = service_class(**arguments)
        if isinstance(instance, dl.BaseServiceRunner):
            instance._service_entity = self.service
        return instance

    def run(self, job: dict[str, Any]) -> None:
        CURRENT.set(job["id"])
        self.reporter.running.add(job["id"])
        self._threads[job["id"]] = threading.get_ident()
        progress = Progress(self.reporter, job["id"])
        try:
            print(START_LINE)
            output = values.pack(self._call(job, progress))
            end = {"status": "success", "output": output}
            if progress.failed is not None:
                end = {"status": "failed", "output": output, "message": progress.failed}
        # Whatever the service's code raises, SystemExit included, ends the execution, not the worker.
        except BaseException as error:  # noqa: BLE001
            end = {"status": "failed", **describe(error)}
            self.reporter.log("ERROR", end["error"])
        finally:
            self._threads.pop(job["id"], None)
        print(END_LINE)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(getattr(stream, "buffer", None), Printed):
                stream.buffer.finish_line()
        self.reporter.running.discard(job["id"])
        CURRENT.set(None)
        self.reporter.report_imports()
        self.reporter.send("end", id=job["id"], **end)

    def interrupt(self, execution_id: str) -> None:
        """Raise InterruptedError in the thread that runs an execution, at its next Python instruction."""
        thread = self._threads.get(execution_id)
        if thread is not None:
            if isinstance(self.target, dl.BaseServiceRunner):
                self.target._terminate(thread)
            error = ctypes.py_object(InterruptedError)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)

    def _call(self, job: dict[str, Any], progress: Progress) -> Any:
        function = self._function(job["functionName"])
        arguments = self._arguments(function, job["functionName"], job["input"])
        parameters = inspect.signature(function).parameters
        if "progress" in parameters:
            arguments["progress"] = progress
        if "context" in parameters:
            arguments["context"] = self._context(job, progress)
        return function(**arguments)

    def _function(self, name: str) -> Callable[..., Any]:
        function = getattr(self.target, name, None)
        if not callable(function) or name.startswith("_"):
            names = [each["name"] for each in self.module.get("functions") or []]
            message = f"the service's code has no function {name!r}; its manifest declares {names}"
            raise code.CodeError(message)
        return function

    def _arguments(self, function: Callable[..., Any], name: str, given: dict[str, Any]) -> dict[str, Any]:
        declared = self._declared(function, name)
        parameters = inspect.signature(function).parameters
        arguments = {}
        for key, value in given.items():
            if key in parameters or _takes_any(parameters):
                arguments[key] = values.resolve(key, declared.get(key), value)
            elif key in declared:
                message = f"function {name!r} declares the input {key!r} but does not take it"
                raise values.ValueProblem(message)
        missing = [
            key
            for key, parameter in parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and key not in (*arguments, "progress", "context")
        ]
        if missing:
            raise values.ValueProblem(f"function {name!r} needs the inputs {missing}; got {sorted(given)}")
        return arguments

    def _declared(self, function: Callable[..., Any], name: str) -> dict[str, str]:
        """Return the types of a function's inputs, from the manifest or the SDK's decorator."""
        specs = [each for each in self.module.get("functions") or [] if each.get("name") == name]
        spec = specs[0] if specs else getattr(function, "__dtlpy__", None) or {}
        return {each["name"]: each.get("type") for each in spec.get("input") or []}

    def _context(self, job: dict[str, Any], progress: Progress) -> dl.Context:
        package = None
        if "components" not in self._package:
            package = dl.Package.from_json(self._package, dl.client_api, project=None)
        return dl.Context(
            service=self.service,
            package=package,
            project=dl.projects.get(project_id=job["projectId"]),
            event_context=job.get("event"),
            execution_dict=job | {"trigger_id": job.get("triggerId")},
            progress=progress,
            logger=logging.getLogger("service"),
            sdk=dl,
        )


def _name_sender(reporter: Reporter) -> None:
    """Let requests of the service's code name its execution, as what they do may fire the trigger that started it."""
    build = dl.client_api._build_request_headers

    def with_sender(headers: dict[str, str] | None = None) -> dict[str, str]:
        return build(headers) | {CAUSE_HEADER: " ".join(reporter.current())}

    dl.client_api._build_request_headers = with_sender


def describe(error: BaseException) -> dict[str, str]:
    """Return an error's message and its stack trace, without the frames of this program."""
    trace = error.__traceback__
    while trace and trace.tb_next and __package__ in trace.tb_frame.f_globals.get("__name__", ""):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    message = str(error) or type(error).__name__
    if not isinstance(error, values.ValueProblem | code.CodeError):
        message = f"{type(error).__name__}: {message}"
    return {"message": message, "error": "".join(lines)}


def _takes_any(parameters: Any) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
