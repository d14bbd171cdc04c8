"""A process with the numerical packages imported, whose forks run scripts."""

import os
import runpy
import sys
import traceback

from alhelpers.forking import Server, exit_fast


def main() -> None:
    """Fork on each request; a fork runs the script of its request, in the script's folder, as Python would."""
    question, files = Server(int(sys.argv[1]), sys.argv[2:]).serve()
    if question is not None:
        for number, file in enumerate(files, 1):
            os.dup2(file, number)
        os.chdir(question["folder"])
        sys.path.insert(0, question["folder"])
        sys.argv = question["command"]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except BaseException:  # noqa: BLE001 - whatever it is, the test reports it
            traceback.print_exc()
            os._exit(1)
    exit_fast()


if __name__ == "__main__":
    main()
