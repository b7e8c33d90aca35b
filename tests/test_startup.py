"""Who the processes of a run are, by the variables of each launcher, and the roll that process 0 calls before JAX waits."""

import os
import re
import socket
import threading
import time
import types

import jax
import pytest
from jax._src import clusters

from lsd_jax import startup
from lsd_jax.errors import InputError

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
}
OMPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
XPK = {"JAX_COORDINATOR_ADDRESS": "run-slice-0-0.run", "JAX_COORDINATOR_PORT": "6002", "NNODES": "2", "NODE_RANK": "1"}
TPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "w0,w1,w2,w3", "TPU_WORKER_ID": "3"}
ALONE = (None, None, None, None)


@pytest.fixture
def joined(monkeypatch):
    """`joined(variables, *arguments)`: what jax.distributed.initialize gets in an environment of these variables alone."""
    foreign = ("SLURM_", "OMPI_", "JAX_COORDINATOR", "JAX_LOCAL", "KUBERNETES_", "JOB_", "TPU_", "MEGASCALE_")
    for name in [name for name in os.environ if name.startswith((*foreign, "NNODES", "NODE_RANK"))]:
        monkeypatch.delenv(name)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **named: calls.append((given, named)))
    monkeypatch.setattr(startup, "roll_call", lambda *given: calls.append(given))

    def join(variables, *arguments):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        startup.join(*(arguments or ALONE), 7)
        rolled, (given, named) = calls
        assert rolled == (*given[:3], 7)
        assert named["cluster_detection_method"] == "deactivate" and named["initialization_timeout"] == 7
        return given

    return join


@pytest.mark.parametrize(
    ("variables", "arguments", "expected"),
    [
        (SLURM, ALONE, ("node07:61441", 16, 9, [1])),
        (SLURM, (None, None, None, [0, 1]), ("node07:61441", 16, 9, [0, 1])),
        (SLURM | {"JAX_COORDINATOR_PORT": "5000"}, ALONE, ("node07:5000", 16, 9, [1])),
        # An explicit coordinator inside an allocation: two local processes would otherwise both take GPU 1.
        (SLURM, ("here:9", 2, 0, None), ("here:9", 2, 0, None)),
        (OMPI, ALONE, ("10.96.0.1:62624", 4, 2, [0])),
        (XPK, ALONE, ("run-slice-0-0.run:6002", 2, 1, None)),
        (XPK | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ALONE, ("run-slice-0-0.run:6002", 2, 1, None)),
        ({}, ("here", 2, 1, None), ("here:55527", 2, 1, None)),
        ({}, ("[::1]", 2, 1, [3]), ("[::1]:55527", 2, 1, [3])),
        ({"JAX_COORDINATOR_ADDRESS": "here:8"}, (None, 2, 1, None), ("here:8", 2, 1, None)),
    ],
)
def test_what_initialize_gets(joined, variables, arguments, expected):
    assert joined(variables, *arguments) == expected


@pytest.mark.parametrize(
    ("labels", "subdomain", "expected"),
    [
        ({}, "pods", "run-0.pods:55527"),
        ({"jobset.sigs.k8s.io/jobset-name": "set"}, None, "run-0.set:55527"),
    ],
    ids=["indexed job", "jobset"],
)
def test_what_initialize_gets_on_kubernetes(joined, monkeypatch, labels, subdomain, expected):
    cluster, made = clusters.K8sCluster, types.SimpleNamespace
    job = made(metadata=made(labels=labels, name="run"), spec=made(parallelism=4))
    monkeypatch.setattr(cluster, "is_env_present", lambda: True)
    monkeypatch.setattr(cluster, "_controller", lambda: made(kind="Job"))
    monkeypatch.setattr(cluster, "_job", lambda: job)
    monkeypatch.setattr(cluster, "_pod", lambda: made(spec=made(subdomain=subdomain)))
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.0.0.2")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert joined({"JOB_COMPLETION_INDEX": "3"}) == (expected, 4, 3, None)


def test_what_initialize_gets_on_tpus_of_gke(joined, monkeypatch):
    for module in (clusters.cloud_tpu_cluster, clusters.cluster):
        monkeypatch.setattr(module, "running_in_cloud_tpu_vm", True)
    # JAX asks the metadata server for what the environment lacks.
    monkeypatch.setattr(clusters.cloud_tpu_cluster, "get_tpu_env_value", os.environ.get)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.0.0.2")
    assert joined(TPU) == ("w0:8482", 4, 3, None)


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({}, ALONE, "does not tell the address of process 0 .*give --coordinator"),
        (SLURM, ("here:9", None, None, None), "--coordinator=here:9: give --num_processes and --process_id too"),
        ({}, ("here:", 2, 0, None), "--coordinator=here:: must be HOST:PORT"),
        ({}, ("here:9", 2, 2, None), "--process_id=2: must be from 0 to 1"),
        ({"JAX_COORDINATOR_ADDRESS": "here"}, ALONE, "does not tell the number of processes"),
        (XPK | {"NNODES": "two"}, ALONE, "NNODES='two'"),
    ],
)
def test_what_is_missing_is_one_line(joined, variables, arguments, message):
    with pytest.raises(InputError, match=message):
        joined(variables, *arguments)


def calls(*processes, timeout=1.0):
    """The roll among these (index, count) on this machine: the message of each, empty where all came."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    told = [None] * len(processes)

    def call(place, index, count):
        try:
            startup.roll_call(address, count, index, timeout)
            told[place] = ""
        except InputError as error:
            told[place] = str(error)

    threads = [threading.Thread(target=call, args=(place, *given)) for place, given in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return told


def test_the_roll_ends_when_all_are_there():
    assert calls((2, 3), (0, 3), (1, 3), timeout=20) == ["", "", ""]


def test_the_roll_says_who_is_missing_everywhere(monkeypatch):
    warnings = []
    monkeypatch.setattr(startup, "_TOLD_EVERY", 0.1)
    monkeypatch.setattr(startup.logging, "warning", lambda text, *values: warnings.append(text % values))
    told = calls((0, 4), (2, 4), timeout=2.5)
    assert told[0] == told[1] and "processes 1, 3 did not come within 2.5 s; every worker must run the same" in told[0]
    assert any("waiting for processes 1, 3 of 4" in line for line in warnings), warnings


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (((1, 2),), "process 1 found no process 0 at 127.0.0.1:.* within 1 s"),
        (((0, 3), (1, 3), (1, 3)), "two processes say that they are process 1 of 3"),
        (((0, 2), (1, 3)), "process 1 counts 3 processes, and process 0 counts 2"),
    ],
)
def test_a_roll_that_cannot_end_says_why(processes, message):
    for told in calls(*processes):
        assert told and re.search(message, told), told
