"""The child process that runs the functions of one service: ``python -m alhelpers.platform.worker``.

It reads JSON lines on its standard input (first the service, then jobs) and writes JSON lines to what was its standard
output; what the service's code prints goes to the log instead. When the input ends, the server is gone, and so is it.
"""
