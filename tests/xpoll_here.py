"""xpoll in the process of the tests: quicker than to start one, and all that it does is real."""

import os
from contextlib import chdir
from unittest import mock

from xpolls import Pipeline

from server.process import main


def xpoll(pipeline: Pipeline, name: str = "proc", **more: str) -> int:
    """`xpoll --once`, started in the directory of the pipeline; returns its exit status. `more`:
    what else is in its environment."""
    environ = mock.patch.dict(os.environ, pipeline.environment(more), clear=True)
    with chdir(pipeline.directory), environ:
        return main(["-p", "night", "-r", name, "--once"])
