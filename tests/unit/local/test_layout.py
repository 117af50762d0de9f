"""The environment of the stack's processes."""

import subprocess
import sys
from pathlib import Path

from local.layout import PORTS, Special, describe, environment_of, free_port, process_names, read_description
from runtime.roles import ROLES


def test_each_of_our_processes_has_a_metrics_port_of_its_own(tmp_path: Path) -> None:
    """No two processes share a port; the gateway has a second one."""
    describe(tmp_path, {"invoices": 2}, False, Special())
    description = read_description(tmp_path)
    ours = [name for name, role in process_names(description) if role in ROLES]
    ports = [int(environment_of(tmp_path, description, name)["GAPLESS_METRICS_PORT"]) for name in ours]
    assert 0 not in ports
    gateway = int(environment_of(tmp_path, description, "gateway")["GAPLESS_GATEWAY_PORT"])
    assert len({*ports, gateway}) == len(ours) + 1


def test_a_port_is_given_once_though_nothing_listens_on_it_yet() -> None:
    given = [free_port() for _ in range(1_000)]
    assert len(set(given)) == len(given)
    assert set(given) <= set(PORTS)


def test_processes_that_draw_ports_at_the_same_time_draw_others() -> None:
    """Each goes on only when the other has drawn as well: nothing listens on any of them yet."""
    draw = "from local.layout import free_port; print(*(free_port() for _ in range(400)), flush=True); input()"
    command = [sys.executable, "-c", draw]
    both = [
        subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        )
        for _ in range(2)
    ]
    drawn = [set(each.stdout.readline().split()) for each in both if each.stdout is not None]
    for each in both:
        each.communicate("\n")
    assert [len(each) for each in drawn] == [400, 400]
    assert drawn[0] & drawn[1] == set()
