"""What a test needs of the machine it runs on."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """This machine cannot run the test: people are told so; CI, which has everything, fails."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
