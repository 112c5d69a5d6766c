"""docs/licences.md against `pyproject.toml` and the metadata of the packages that are installed.

Which packages an extra installs depends on versions and platforms. The page may therefore name packages
that are missing here, and permissive ones may be missing on the page.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

#: The packages and licences on the page, by extra.
PAGE: dict[str, dict[str, str]] = {}
for _extra, _package, _licence in re.findall(
    r"^\| `?([\w -]+?)`? \| `([\w-]+)` \| (.+) \|$",
    (ROOT / "docs" / "licences.md").read_text(encoding="utf-8"),
    re.MULTILINE,
):
    PAGE.setdefault(_extra, {})[_package] = _licence
LICENCES = {package: licence for packages in PAGE.values() for package, licence in packages.items()}

#: How the metadata of different versions names licences of one kind.
KINDS = {
    "Apache": "Apache",
    "BSD": "BSD",
    "MIT": "MIT",
    "PSF": "PSF|Python Software Foundation",
    "ZPL": "ZPL|Zope Public",
    "MPL": "MPL|Mozilla",
    "LGPL": "LGPL|Lesser General Public",
    "GPL": r"(?<!L)GPL|GNU (Affero )?General Public",
}
PERMISSIVE = {"Apache", "BSD", "MIT", "PSF", "ZPL"}


def kinds(licence: str) -> set[str]:
    return {kind for kind, pattern in KINDS.items() if re.search(pattern, licence)}


def licence_of(package: Distribution) -> str:
    """Return the licence in the metadata. Older packages have its name in one of two other fields."""
    metadata = package.metadata
    texts = [*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or [])]
    names = [text for text in texts if "\n" not in text and kinds(text)]
    classifiers = metadata.get_all("Classifier") or []
    return names[0] if names else " ".join(each for each in classifiers if "License ::" in each)


def installed_by(requirement: Requirement) -> Iterator[Distribution]:
    """Yield the installed packages that a requirement leads to, with repetitions."""
    try:
        package = distribution(requirement.name)
    except PackageNotFoundError:
        return
    yield package
    for each in map(Requirement, package.requires or []):
        extras = ["", *requirement.extras]
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
            yield from installed_by(each)


REQUIRED = {
    extra: [each for each in map(Requirement, requirements) if each.name != "heksher"]
    for extra, requirements in {"every installation": PROJECT["dependencies"], **EXTRAS}.items()
}
INSTALLED = {
    canonicalize_name(package.metadata["Name"]): package
    for requirements in REQUIRED.values()
    for requirement in requirements
    for package in installed_by(requirement)
}


def test_the_page_names_what_each_extra_requires() -> None:
    required = {
        extra: {canonicalize_name(each.name) for each in requirements}
        for extra, requirements in REQUIRED.items()
    }
    assert required == {
        extra: packages & PAGE.get(extra, {}).keys() for extra, packages in required.items()
    }
    assert PAGE.keys() <= required.keys()


def test_packages_are_found_at_all() -> None:
    assert {"anyio", "certifi", "idna", "starlette", "click", "trio", "attrs"} <= INSTALLED.keys()


@pytest.mark.parametrize("package", sorted(INSTALLED))
def test_the_licence_on_the_page_is_that_of_the_package(package: NormalizedName) -> None:
    found = kinds(licence_of(INSTALLED[package]))
    assert found, "no known licence"
    # The page names all licences of the newest version. Older ones may name fewer.
    assert found <= (kinds(LICENCES[package]) if package in LICENCES else PERMISSIVE)
