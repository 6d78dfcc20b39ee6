"""What the tests of whole commands share."""

import pytest

from modgap.cli import main


@pytest.fixture
def modgap(capsys):
    """A function that runs a command and returns what it printed on stdout."""

    def call(*words):
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return call
