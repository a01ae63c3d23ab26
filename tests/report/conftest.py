"""Results to damage."""

import shutil

import pytest
from report_world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture
def copy(world, tmp_path):
    """The finished results, to damage."""
    folder = tmp_path / "copy"
    shutil.copytree(world, folder)
    for path in (folder / "results/.versions").glob("*"):
        path.unlink()
    return folder
