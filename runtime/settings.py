"""All settings of all processes, typed, read from the environment once at the start.

A setting `x` is read from `GAPLESS_X`, or from the file named by `GAPLESS_X_FILE` (for secrets mounted as files).
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from domain.secret_keys import derive_keys

ENV_PREFIX = "GAPLESS_"

Port = Annotated[int, Field(ge=0, le=65535)]


def _names_a_store(url: str) -> str:
    if re.match(r"file:///.|s3://[^/]", url) is None:
        raise ValueError("must be file:///folder or s3://bucket/prefix")
    return url


def _are_keys(keys: SecretStr | None) -> SecretStr | None:
    if keys is not None and not derive_keys(keys.get_secret_value(), b""):
        raise ValueError("has no key; leave it out, or take its file away, to have none")
    return keys


def _are_urls(urls: str) -> str:
    for url in filter(None, urls.split(",")):
        if re.fullmatch(r"https?://[^/\s,]+", url) is None:
            raise ValueError("must be http://HOST:PORT, comma separated")
    return urls


class SettingsError(Exception):
    """A setting is missing or wrong; the message names the environment variable and the fix, never the value."""


class Settings(BaseSettings):
    """The settings of a process. Units are last in the names."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore")

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma separated.")
    postgres_url: SecretStr = Field(
        SecretStr("postgresql://gapless@127.0.0.1:5432/gapless"), description="Postgres, a libpq URL."
    )
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey, a redis URL.")
    objects_url: Annotated[str, AfterValidator(_names_a_store)] = Field(
        "file:///var/lib/gapless/objects",
        description="Object store: file:///folder or s3://bucket/prefix.",
    )
    objects_endpoint: str | None = Field(None, description="S3 endpoint, for stores other than AWS.")
    objects_access_key_id: SecretStr | None = Field(None, description="S3 access key id.")
    objects_secret_access_key: SecretStr | None = Field(None, description="S3 secret access key.")
    objects_region: str = Field("us-east-1", description="S3 region.")

    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: Port = Field(8080, description="Port the gateway listens on; 0 takes a free one.")
    gateway_drain_seconds: float = Field(
        10.0,
        ge=0,
        le=300,
        description="How long a gateway continues to serve after SIGTERM while not ready, before it stops listening: "
        "longer than its load balancer takes to notice.",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+\S*$",
        description="URL at which buyers reach the gateways, as https://shop.example; links to documents begin with it."
        " None: links begin as the request for them did.",
    )
    link_keys: Annotated[SecretStr | None, AfterValidator(_are_keys)] = Field(
        None,
        description="Keys for signed links to documents, 32 characters or more each, comma separated: the first signs,"
        " all are accepted. Taking one out revokes its links. None: there are no links.",
    )
    secret_keys: Annotated[SecretStr | None, AfterValidator(_are_keys)] = Field(
        None,
        description="Keys that encrypt the secrets of webhook endpoints in Postgres, 32 characters or more each, comma"
        " separated: the first encrypts, all decrypt. None: they are stored as they are.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics port.")
    metrics_port: Port = Field(
        0,
        description="Port that serves /metrics, /healthz and /readyz, and the monitor's dashboard; 0 serves none.",
    )

    worker_slot: str = Field(
        "1",
        pattern=r"^[A-Za-z0-9_-]{1,32}$",
        description="Stable name of this worker among those of its role; its static membership in the consumer group.",
    )
    worker_data: Path = Field(
        Path("/var/lib/gapless/worker"),
        description="Folder of this worker's RocksDB tables, or of its search index; they may be lost.",
    )
    batch_records_max: int = Field(
        1000, ge=1, le=10_000, description="Most records per batch: bounds memory and the time of a commit."
    )
    render_processes: int = Field(1, ge=1, le=64, description="Processes of a documents worker that render PDFs.")

    search_host: str = Field("127.0.0.1", description="Address a search worker listens on, for gateways alone.")
    search_port: Port = Field(8070, description="Port a search worker listens on; 0 takes a free one.")
    search_urls: Annotated[str, AfterValidator(_are_urls)] = Field(
        "", description="Search workers that a gateway asks, comma separated, as http://search-1:8070; none: no search."
    )

    hold_seconds: int = Field(
        600, ge=1, le=86_400, description="How long an order keeps its stock while its payment is not known."
    )
    provider: Literal["local", "stripe"] = Field("local", description="Payment provider.")
    provider_url: str | None = Field(None, description="The provider's URL; None for the provider's own default.")
    provider_api_key: SecretStr | None = Field(None, description="The provider's secret key.")
    former_provider: Literal["local", "stripe"] | None = Field(
        None, description="Provider of the payments made before a change of provider."
    )
    former_provider_url: str | None = Field(None, description="The former provider's URL; None for its own default.")
    former_provider_api_key: SecretStr | None = Field(None, description="The former provider's secret key.")
    provider_webhook_secret: SecretStr | None = Field(
        None, description="Secret with which the provider signs its webhooks; without it they are refused."
    )
    refund_pass_seconds: int = Field(
        600,
        ge=1,
        le=86_400,
        description="How often a payments worker reads the provider's list of refunds, to find those made in its"
        " dashboard whose notice was lost.",
    )

    webhooks_allow: str = Field(
        "",
        description="Networks in CIDR notation, comma separated, that webhooks may be sent to although they are not of"
        " the public Internet, as 10.1.0.0/16. With any, endpoints may have http URLs.",
    )

    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server that e-mail is handed to: smtp://USER:PASSWORD@HOST:587 or smtps://HOST; STARTTLS is"
        " used where the server offers it, and required with ?starttls=required. None sends no e-mail.",
    )

    monitor_token: SecretStr | None = Field(
        None, description="Token with which operators log in to the dashboard, 16 characters or more."
    )
    monitor_processes: str = Field(
        "",
        description="Processes whose readiness the monitor checks: NAME=HOST:PORT of their metrics ports,"
        " comma separated. Workers are named ROLE-SLOT, such as invoices-1.",
    )

    probe_url: str | None = Field(
        None, description="Gateway to which the monitor sends a test request every ten seconds; None for no probe."
    )
    probe_api_key: SecretStr | None = Field(None, description="API key of the probe's seller.")

    local_api_key: SecretStr | None = Field(
        None, description="API key of the seller that `gapless sellers ensure-local` creates."
    )

    replication_factor: int = Field(
        3, ge=1, le=9, description="Replicas of topics that `gapless topics` creates; the least for existing ones."
    )
    otlp_url: str | None = Field(
        None,
        pattern="^https?://[^/]",
        description="Collector that receives traces in OTLP over HTTP, such as http://127.0.0.1:4318; None for none.",
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Lowest severity to log.")

    def former(self) -> "Settings":
        """The same settings with the former provider as the provider."""
        return self.model_copy(
            update={
                "provider": self.former_provider,
                "provider_url": self.former_provider_url,
                "provider_api_key": self.former_provider_api_key,
            }
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments override the environment, and the environment overrides the files that it names."""
        return init_settings, env_settings, _NamedFiles(settings_cls)


class _NamedFiles(PydanticBaseSettingsSource):
    """Reads a setting from the file that `GAPLESS_<NAME>_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{ENV_PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text().strip(), field_name, False
        except OSError as error:
            raise SettingsError(f"{variable}: cannot read the file it names: {error.strerror}") from None

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


def known_variables() -> list[str]:
    """All variables that are read, in the order of the settings."""
    return [f"{ENV_PREFIX}{name.upper()}{file}" for name in Settings.model_fields for file in ("", "_FILE")]


def refuse_unknown(environment: Mapping[str, str] | None = None) -> None:
    """Raise `SettingsError` for variables that begin with `GAPLESS_` and are not a setting, one line each.

    Otherwise a misspelt variable would silently leave a default in force.
    """
    known = known_variables()
    names = os.environ if environment is None else environment
    unknown = sorted(name for name in names if name.upper().startswith(ENV_PREFIX) and name.upper() not in known)
    lines = []
    for name in unknown:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
        lines.append(f"{name}: there is no such setting; the nearest is {near[0]}; `gapless settings` lists all")
    if lines:
        raise SettingsError("\n".join(lines))


def load(**given: Any) -> Settings:
    """Read and check the settings.

    Raises `SettingsError`, one line per wrong setting and per unknown variable. Values are left out, because one of
    them may be a secret.
    """
    refuse_unknown()
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [f"{ENV_PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None
