"""Importing the kit changes nothing for the rest of the process."""

import json
import os
import subprocess
import sys

import pytest
from test_setup import MODULES, imports

CODE = """
import asyncio, builtins, decimal, gc, importlib, json, locale, logging, mimetypes, multiprocessing, os, random, signal
import socket, sys, threading, warnings

def imported(names):
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:  # of a package that is not installed
            if (error.name or "").startswith("alhelpers"):
                raise

OTHERS, OURS = json.loads(sys.argv[1])
imported(OTHERS)
import matplotlib.pyplot, numpy, pandas, PIL.Image, PIL.ImageFile, torch

LOGGERS = set(logging.root.manager.loggerDict)

def state():
    loggers = {name: logger for name, logger in logging.root.manager.loggerDict.items() if "alhelpers" not in name}
    return {
        "environment": dict(os.environ), "warnings": [str(entry) for entry in warnings.filters],
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "blocked": [name for name, module in sys.modules.items() if module is None],
        "matplotlib": [f"{name}={matplotlib.rcParams._get(name)}" for name in matplotlib.rcParams],
        "pandas": [str(pandas.get_option(name)) for name in pandas._config.config._registered_options
                   if name.startswith(("display", "compute", "plotting"))],
        "numpy": [str(numpy.get_printoptions()), str(numpy.geterr()), str(numpy.random.get_state())],
        "torch": [torch.get_num_threads(), torch.get_num_interop_threads(), str(torch.get_default_dtype()),
                  torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
                  torch.backends.cudnn.benchmark, str(torch.get_rng_state().sum())],
        "random": str(random.getstate()), "decimal": str(decimal.getcontext()),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "loggers": [f"{name} {getattr(each, 'level', 0)} {len(getattr(each, 'handlers', []))}"
                    f" {getattr(each, 'disabled', 0)}" for name, each in loggers.items() if name in LOGGERS],
        "logging": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
        "hooks": [str(hook) for hook in (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook)],
        "imports": [sys.path, [str(each) for each in sys.meta_path if "alhelpers" not in str(each)]],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), socket.getdefaulttimeout(), gc.get_threshold(),
                   gc.isenabled(), sys.get_int_max_str_digits()],
        "images": [PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES, sorted(PIL.Image.OPEN)],
        "loop": str(type(asyncio.get_event_loop_policy())), "locale": locale.setlocale(locale.LC_ALL),
        "builtins": sorted(vars(builtins)), "types": sorted(mimetypes.types_map.items()), "folder": os.getcwd(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "formats": checked(),
    }

def checked():
    import jsonschema
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return [sorted(checker.checkers), [checker.conforms(text, "iri") for text in ("http://example.invalid/a", "a b")]]

before = state()
imported(OURS)
after = state()
for name in before:
    if before[name] != after[name]:
        print(name, before[name], after[name], sep="\\n    ")
"""


@pytest.mark.process
def test_importing_every_module_changes_nothing_for_others():
    others = {
        f"{module}.{name}"
        for path in MODULES.values()
        for module, names, level in imports(path)
        if not level
        for name in ["", *names]
        if not f"{module}.".startswith("alhelpers.")
    }
    others = sorted(name.removesuffix(".") for name in others)
    ours = sorted(name for name in MODULES if not name.endswith("__main__") and name != "alhelpers._moved")
    command = [sys.executable, "-c", CODE, json.dumps([others, ours])]
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
