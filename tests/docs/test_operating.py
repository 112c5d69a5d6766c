"""docs/operating.md: its commands, run as one session in a shell, show what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doc_examples import DOCS, PATIENCE, at, examples

from heksher.testing.service import LiveService

PAGE = DOCS / "operating.md"


@pytest.mark.skipif(not shutil.which("bash") or not shutil.which("curl"), reason="needs bash, curl")
def test_the_session(tmp_path: Path) -> None:
    session = PAGE.read_text().partition("## Run the service")[0]
    found = re.findall(r"^```(sh|text)\n(.*?)^```$", session, re.DOTALL | re.MULTILINE)
    assert len(found) > 10
    script = "".join(text for kind, text in found if kind == "sh")
    shown = "".join(text for kind, text in found if kind == "text")
    # A service of its own, whose rules have the first numbers.
    with LiveService(["environment", "user", "theme"], in_process=True, proxy=False) as service:
        (tmp_path / "shop.py").write_text(at(service.url, examples(PAGE)["application"]))
        done = subprocess.run(
            ["bash", "-e", "-c", at(service.url, script)],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == shown
