"""Where the database is, and secrets that lie in files."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from kshot.storage.settings import DatabaseSettings
from service.settings import Settings
from workers.settings import WorkerSettings

URL = "postgresql://kshot@db/kshot"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "POSTGRES_PASSWORD", "REDIS_URL", "KSHOT_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def in_file(folder: Path, name: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / name).write_text(f"{secret}\n")
    monkeypatch.setenv(f"{name}_FILE", str(folder / name))


def test_every_secret_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in {"DATABASE_URL": URL, "REDIS_URL": "redis://r", "KSHOT_ADMIN_KEY": "k" * 40}.items():
        in_file(tmp_path, name, secret, monkeypatch)
    settings = Settings()
    assert settings.database == URL
    assert settings.redis_url.get_secret_value() == WorkerSettings().redis_url.get_secret_value() == "redis://r"
    assert settings.admin_key is not None and settings.admin_key.get_secret_value() == "k" * 40
    assert "k" * 40 not in repr(settings)


def test_a_password_beside_the_url_is_filled_in_whatever_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file(tmp_path, "POSTGRES_PASSWORD", "p@ss/w:rd", monkeypatch)
    monkeypatch.setenv("DATABASE_URL", URL)
    assert DatabaseSettings().database == "postgresql://kshot:p%40ss%2Fw%3Ard@db/kshot"
    monkeypatch.setenv("DATABASE_URL", "postgresql://kshot:own@db/kshot")
    assert DatabaseSettings().database == "postgresql://kshot:own@db/kshot"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"DATABASE_URL_FILE: cannot read .*url \(No such file"), ("\n", "DATABASE_URL_FILE: .*url is empty")],
)
def test_a_file_that_is_missing_or_empty_is_named(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "url").write_text(content)
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsError, match=message):
        DatabaseSettings()


def test_a_secret_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_file(tmp_path, "DATABASE_URL", URL, monkeypatch)
    monkeypatch.setenv("DATABASE_URL", URL)
    with pytest.raises(SettingsError, match="DATABASE_URL and DATABASE_URL_FILE are both set"):
        DatabaseSettings()


@pytest.mark.parametrize("url", ["nonsense", "mysql://x"])
def test_a_wrong_url_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ValidationError, match="DATABASE_URL"):
        DatabaseSettings()


def test_only_secrets_may_lie_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("REDIS_URL", "redis://r")
    in_file(tmp_path, "KSHOT_MAX_WAYS", "5", monkeypatch)
    assert Settings().max_ways == 200
