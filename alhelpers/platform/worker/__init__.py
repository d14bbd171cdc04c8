"""The process that runs the functions of one service: ``python -m alhelpers.platform.worker``.

It reads JSON lines from its standard input, first the service, then jobs, and writes JSON lines to the standard output;
what the service's code prints is logged instead. It ends when its input does.
"""
