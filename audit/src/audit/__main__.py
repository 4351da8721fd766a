"""``python -m audit``: judge the live stores; exit 1 if anything is violated, 2 if unreadable."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from audit.report import judge
from audit.snapshot import SETTLE_SECONDS, Source


class AuditSettings(BaseSettings):
    """Where the audit reads; from ``AUDIT_*`` variables, or files so named in ``$SECRETS_DIR``."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_")

    host: str = "127.0.0.1"
    port: int
    user: str = "audit"
    password: SecretStr

    def source(self) -> Source:
        """As the snapshot wants it."""
        return Source(self.host, self.port, self.user, self.password)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="audit", description=__doc__)
    parser.add_argument(
        "--settle-seconds",
        type=int,
        default=SETTLE_SECONDS,
        help="age at which news between services must have arrived (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="counts a rule, as JSON")
    parser.add_argument(
        "--metrics", type=Path, help="also write the counts there, in Prometheus' text format"
    )
    options = parser.parse_args(arguments)
    try:
        settings = AuditSettings(_secrets_dir=os.environ.get("SECRETS_DIR"))
    except ValidationError as reason:
        fields = ", ".join("AUDIT_" + str(error["loc"][0]).upper() for error in reason.errors())
        sys.stderr.write(f"audit: missing or wrong settings: {fields}\n")
        return 2
    return judge(
        settings.source(),
        settle_seconds=options.settle_seconds,
        as_json=options.json,
        metrics=options.metrics,
    )


if __name__ == "__main__":
    raise SystemExit(main())
