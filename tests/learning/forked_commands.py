"""Runs `partfit` commands in forked processes, so that what takes long to import is imported once.

Each line of stdin is a JSON list: a file for the output, then the command's arguments. Two lines come back:
the process's number, and its exit code when it has ended.
"""

import json
import os
import sys

import partfit.learning.training  # noqa: F401 what takes long
from partfit.cli import main

print("ready", flush=True)
for line in sys.stdin:
    output, *arguments = json.loads(line)
    process = os.fork()
    if process == 0:
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        main(arguments, prog_name="partfit")
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
