"""Build the wheel and the sdist, check their contents, and use each without extras.

A script for the tox environment `packaging`. pytest does not collect it, since it needs a package index.
`use_without_extras.py` is what runs in each installation.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent

IN_WHEEL = {"heksher/__init__.py", "heksher/py.typed", "_heksher_pytest.py"}
IN_SDIST = {
    *IN_WHEEL,
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "tests/packaging/check_archives.py",
    "tox.ini",
}


class CheckFailedError(Exception):
    """An archive is wrong."""


def main() -> None:
    """Check both archives; exit with an error if one is wrong."""
    with tempfile.TemporaryDirectory(prefix="heksher-packaging-") as name:
        temporary = Path(name)
        try:
            wheel, sdist = build(temporary / "dist")
            check_wheel(wheel)
            check_sdist(sdist)
            for archive in wheel, sdist:
                use(archive, temporary / archive.name.removesuffix(".gz").removesuffix(".tar"))
        except CheckFailedError as error:
            sys.exit(f"packaging: {error}")
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd))
            sys.exit(f"packaging: exit code {error.returncode} from {command}")
    print("packaging: wheel and sdist are complete and work with no extra installed")


def build(target: Path) -> tuple[Path, Path]:
    """Build the sdist from the tree, and the wheel from the sdist; return the wheel and the sdist."""
    run(sys.executable, "-m", "build", "--outdir", target, PROJECT)
    return only(target, "*.whl"), only(target, "*.tar.gz")


def only(folder: Path, pattern: str) -> Path:
    """Return the only file in *folder* that matches *pattern*."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise CheckFailedError(f"expected one {pattern}, found {len(found)}")
    return found[0]


def check_wheel(wheel: Path) -> None:
    """Check that the wheel holds the package, its licence and the plugin for pytest, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = "-".join(wheel.name.split("-")[:2]) + ".dist-info/"
    expect(names, {*IN_WHEEL, metadata + "licenses/LICENSE"}, wheel)
    ours = ("heksher/", "_heksher_pytest.py", metadata)
    if strangers := {name for name in names if not name.startswith(ours)}:
        raise CheckFailedError(f"{wheel.name} holds unexpected files: {sorted(strangers)}")


def check_sdist(sdist: Path) -> None:
    """Check that the sdist holds the files that building and testing need."""
    top = sdist.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(top) for name in archive.getnames()}
    expect(names, IN_SDIST, sdist)


def expect(names: set[str], wanted: set[str], archive: Path) -> None:
    """Check that *names* include all *wanted* files, and no files that a run leaves behind."""
    if missing := wanted - names:
        raise CheckFailedError(f"{archive.name} misses files: {sorted(missing)}")
    if leavings := {name for name in names if "__pycache__" in name or name.endswith(".pyc")}:
        raise CheckFailedError(f"{archive.name} holds files of a run: {sorted(leavings)}")


def use(archive: Path, folder: Path) -> None:
    """Install *archive* into a new environment without extras, and use it there."""
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-I", "-m", "pip", "install", "--quiet", "--no-cache-dir", archive)
    # With -I and in a folder without source code, Python imports the installed package.
    run(python, "-I", "-W", "error", HERE / "use_without_extras.py", cwd=folder)


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Print *command* and run it."""
    print("packaging:", *command, flush=True)
    subprocess.run(command, cwd=cwd, check=True)


if __name__ == "__main__":
    main()
