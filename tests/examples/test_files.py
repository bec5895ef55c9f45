"""What every example's file has in common, and that the list of them is complete."""

from pathlib import Path

import pytest
from example_apps import EXAMPLES, section

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/kasbah.yaml"))


def test_every_folder_is_an_example() -> None:
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert folders == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_short_and_labelled(name: str) -> None:
    assert section(name).data is not None
    assert len((EXAMPLES / name / "kasbah.yaml").read_text().splitlines()) <= 12


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_how_to_deploy_it(name: str) -> None:
    assert f"kasbah deploy examples/{name}" in (EXAMPLES / name / "README.md").read_text()


def test_the_lock_of_the_node_app_names_no_registry() -> None:
    assert '"resolved"' not in Path(EXAMPLES / "hello-node" / "package-lock.json").read_text()
