"""Where the first process is reached, by what torchrun leaves in the environment."""

import pytest

from fanin.processes.launch import _address_of_first


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "host0"),
        ({"LOCAL_WORLD_SIZE": "2"}, "host0"),
        ({"LOCAL_WORLD_SIZE": "4"}, "127.0.0.1"),  # all of them are on one machine
    ],
)
def test_connections_stay_inside_a_machine_that_has_all_processes(environment, address, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _address_of_first({"WORLD_SIZE": "4", "MASTER_ADDR": "host0"}) == address
