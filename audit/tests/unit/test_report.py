"""How a verdict leaves the program: exit codes, JSON, and a metric."""

import json
import re
from pathlib import Path

import pytest

from audit import report
from audit.__main__ import main
from audit.rules import ALL_RULES

NOTHING: dict[str, list[str]] = {rule.name: [] for rule in ALL_RULES}
ONE_BROKEN = NOTHING | {ALL_RULES[0].name: ["seat_id=1", "seat_id=2"]}


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the stores are found to break; read without a server."""
    found = dict(NOTHING)

    async def check(*_: object, **__: object) -> dict[str, list[str]]:
        return found

    monkeypatch.setattr(report, "check", check)
    for name, value in {"AUDIT_PORT": "1", "AUDIT_PASSWORD": "x"}.items():
        monkeypatch.setenv(name, value)
    return found


class TestExitCode:
    def test_0_when_nothing_is_violated(self, audited: dict[str, list[str]]) -> None:
        assert main([]) == 0

    def test_1_when_something_is(self, audited: dict[str, list[str]]) -> None:
        audited.update(ONE_BROKEN)
        assert main([]) == 1

    def test_2_when_the_stores_cannot_be_read(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("AUDIT_PORT", "1")
        monkeypatch.setenv("AUDIT_PASSWORD", "x")
        assert main([]) == 2
        assert capsys.readouterr().err.startswith("audit: the stores cannot be read")

    def test_2_names_the_settings_that_are_missing(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("AUDIT_PORT", raising=False)
        monkeypatch.delenv("AUDIT_PASSWORD", raising=False)
        assert main([]) == 2
        message = capsys.readouterr().err
        assert message == "audit: missing or wrong settings: AUDIT_PORT, AUDIT_PASSWORD\n"


class TestSecrets:
    def test_come_from_files_too(
        self, audited: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("AUDIT_PASSWORD")
        (tmp_path / "audit_password").write_text("from a file")
        assert main([]) == 2
        monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
        assert main([]) == 0


class TestJson:
    def test_counts_a_rule(
        self, audited: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        audited.update(ONE_BROKEN)
        main(["--json"])
        counts = json.loads(capsys.readouterr().out)
        assert counts == dict.fromkeys(NOTHING, 0) | {ALL_RULES[0].name: 2}


class TestMetrics:
    def test_every_rule_is_a_time_series_and_the_run_has_its_time(
        self, audited: dict[str, list[str]], tmp_path: Path
    ) -> None:
        audited.update(ONE_BROKEN)
        path = tmp_path / "audit.prom"
        assert main(["--metrics", str(path)]) == 1
        text = path.read_text()
        counts = dict(re.findall(r'stagedoor_invariant_violations\{.*rule="(.+)"\} (\d+)\.0', text))
        assert counts == dict.fromkeys(NOTHING, "0") | {ALL_RULES[0].name: "2"}
        assert 'invariant="1",rule="one-live-reservation-a-seat"' in text
        assert re.search(r"stagedoor_audit_finished_timestamp_seconds 1\.\d+e\+09", text)

    def test_an_audit_that_could_not_read_leaves_the_last_verdict_to_age(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AUDIT_PORT", "1")
        monkeypatch.setenv("AUDIT_PASSWORD", "x")
        path = tmp_path / "audit.prom"
        path.write_text("the last one")
        assert main(["--metrics", str(path)]) == 2
        assert path.read_text() == "the last one"
