"""Runs an experiment on Kubernetes, one process per pod: TPU slices of GKE by a JobSet, GPU or CPU nodes by an Indexed Job.

python launch/gke.py tpu --name=text --image=IMAGE --bucket=my-runs --accelerator=tpu-v5-lite-podslice --topology=4x4 -- --config=text
python launch/gke.py nodes --name=text --image=IMAGE --claim=runs --processes=4 --gpus=1 -- --config=text

The manifest goes to `kubectl apply -f -`; with --dry_run it is printed. The image is made by launch/Dockerfile.
"""

import argparse
import math
import re
import shutil
import subprocess
import sys
from typing import Any, NoReturn

import yaml  # comes with ml_collections

_MOUNT = "/runs"
_PORT = 55527  # of process 0; the one that JAX takes on Kubernetes
_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}")  # one line, without the usage


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value) or len(value) > 40:  # JobSet adds a suffix, and a label holds 63 characters
        raise argparse.ArgumentTypeError(f"{value!r}: at most 40 of a-z, 0-9 and -, a letter first")
    return value


def _pair(value: str) -> tuple[str, str]:
    key, equals, text = value.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{value!r} is not of the form KEY=VALUE")
    return key, text


def _at_least(least: int):
    """An argument type: a whole number of `least` or more."""

    def check(value: str) -> int:
        if not value.isdecimal() or int(value) < least:
            raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of {least} or more")
        return int(value)

    return check


def _topology(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not of the form 4x4 or 2x2x4")
    return value


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; what follows "--" is the experiment's and is kept as `arguments`."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _Parser(description="Runs an experiment on Kubernetes.", allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True, parser_class=_Parser)
    tpu = kinds.add_parser("tpu", help="TPU slices of GKE: a JobSet", allow_abbrev=False)
    nodes = kinds.add_parser("nodes", help="GPU or CPU nodes: an Indexed Job and a Service", allow_abbrev=False)
    for kind in (tpu, nodes):
        kind.add_argument("--name", required=True, type=_name, help="of the job; the run directory has it too")
        kind.add_argument("--image", required=True, help="a container image whose entry is lsd_jax.main")
        kind.add_argument("--namespace", default="default")
        kept = kind.add_mutually_exclusive_group(required=True)
        kept.add_argument("--claim", help="a PersistentVolumeClaim that every pod can mount, for the run directory")
        kept.add_argument("--bucket", help="a Cloud Storage bucket, mounted by GKE, for the run directory")
        kind.add_argument("--service_account", help="a Kubernetes one; it has to be allowed to write the bucket")
        kind.add_argument("--restarts", type=_at_least(0), default=3, help="how often a failed run is started again")
        kind.add_argument("--grace_seconds", type=_at_least(1), default=120, help="to save before a pod is killed")
        kind.add_argument("--spot", action="store_true", help="on spot nodes of GKE")
        kind.add_argument("--env", type=_pair, action="append", default=[], help="KEY=VALUE, as often as needed")
        kind.add_argument("--dry_run", action="store_true", help="print the manifest instead of applying it")
    tpu.add_argument("--accelerator", required=True, help="the nodes' label, for example tpu-v5-lite-podslice")
    tpu.add_argument("--topology", required=True, type=_topology, help="of a slice, for example 4x4")
    tpu.add_argument("--chips", type=_at_least(1), default=4, help="per host")
    tpu.add_argument("--slices", type=_at_least(1), default=1)
    nodes.add_argument("--processes", required=True, type=_at_least(1), help="how many pods, one process each")
    nodes.add_argument("--gpus", type=_at_least(0), default=0, help="per pod; 0 runs on the CPU")
    nodes.add_argument("--cpus", default="4", help="requested per pod")
    nodes.add_argument("--memory", default="16Gi", help="requested per pod")
    nodes.add_argument("--node_selector", type=_pair, action="append", default=[], help="KEY=VALUE, a node's label")
    options = parser.parse_args(argv[:cut])
    options.arguments = argv[cut + 1 :]
    names = [argument.lstrip("-").split("=")[0] for argument in options.arguments]
    if "config" not in names:
        parser.error("give the experiment after --, for example -- --config=text")
    for name in {"workdir", "distributed", "coordinator", "num_processes", "process_id"} & set(names):
        parser.error(f"--{name} is set by this launcher; leave it out")
    if options.kind == "tpu" and (
        not options.accelerator.startswith("tpu") or math.prod(map(int, options.topology.split("x"))) % options.chips
    ):
        parser.error(
            f"--accelerator={options.accelerator} --topology={options.topology} --chips={options.chips}: the accelerator is "
            "a node label such as tpu-v5-lite-podslice, and the chips of a host divide those of the topology"
        )
    return options


def _pod(options: argparse.Namespace, extra: list[str], resources: dict[str, Any], labels: dict[str, str]) -> dict:
    """A pod template: one container whose entry is lsd_jax.main, with the volume of the run directory."""
    if options.bucket:
        # Orbax renames a folder when a checkpoint is whole; a bucket's mount refuses that beyond this many files.
        mount = {"bucketName": options.bucket, "mountOptions": "implicit-dirs,rename-dir-limit=200000"}
        volume = {"name": "runs", "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": mount}}
    else:
        volume = {"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}}
    # Kubernetes replaces $(NAME) in arguments; $$( stands for the characters themselves.
    typed = [argument.replace("$(", "$$(") for argument in options.arguments]
    container = {
        "name": "lsd",
        "image": options.image,
        "args": [*typed, "--distributed", *extra, f"--workdir={_MOUNT}/{options.name}"],
        "env": [{"name": key, "value": value} for key, value in options.env],
        "resources": resources,
        "volumeMounts": [{"name": "runs", "mountPath": _MOUNT}],
    }
    if options.spot:
        labels = {**labels, "cloud.google.com/gke-spot": "true"}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": options.grace_seconds,
        **({"serviceAccountName": options.service_account} if options.service_account else {}),
        **({"nodeSelector": labels} if labels else {}),
        "containers": [{key: value for key, value in container.items() if value}],
        "volumes": [volume],
    }
    annotations = {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}} if options.bucket else {}
    return {**annotations, "spec": spec}


def tpu_manifests(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A JobSet: a Job per slice, a pod per host. GKE tells the pods of each other, and JAX reads that by itself."""
    hosts = math.prod(map(int, options.topology.split("x"))) // options.chips
    chips = {"google.com/tpu": options.chips}
    labels = {
        "cloud.google.com/gke-tpu-accelerator": options.accelerator,
        "cloud.google.com/gke-tpu-topology": options.topology,
    }
    job = {
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "backoffLimit": 0,  # a lost pod ends the run on all hosts, and the JobSet starts all of them again
        "template": _pod(options, [], {"requests": chips, "limits": chips}, labels),
    }
    one_slice_per_pool = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": options.name, "namespace": options.namespace, "annotations": one_slice_per_pool},
            "spec": {
                "failurePolicy": {"maxRestarts": options.restarts},
                "replicatedJobs": [{"name": "slice", "replicas": options.slices, "template": {"spec": job}}],
            },
        }
    ]


def nodes_manifests(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A headless Service, which gives pods names, and an Indexed Job, which gives them numbers."""
    name, count = options.name, options.processes
    extra = [
        f"--coordinator={name}-0.{name}:{_PORT}",  # a pod's host name is the Job's and its index
        f"--num_processes={count}",
        "--process_id=$(JOB_COMPLETION_INDEX)",
    ]
    resources: dict[str, Any] = {"requests": {"cpu": options.cpus, "memory": options.memory}}
    if options.gpus:
        resources["limits"] = {"nvidia.com/gpu": options.gpus}
    template = _pod(options, extra, resources, dict(options.node_selector))
    template["spec"]["subdomain"] = name
    metadata = {"name": name, "namespace": options.namespace}
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,  # the others look for process 0 while it starts
        "selector": {"job-name": name},
        "ports": [{"name": "coordinator", "port": _PORT}],
    }
    job = {
        "completionMode": "Indexed",
        "parallelism": count,
        "completions": count,
        "backoffLimit": options.restarts * count,  # a failed run is a failed pod of each process
        # A pod that its node had to give up counts as no failure.
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": template,
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job},
    ]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # requests and limits are one dictionary, which YAML would write as a reference


def main(argv: list[str]) -> None:
    options = parse(argv)
    manifests = tpu_manifests(options) if options.kind == "tpu" else nodes_manifests(options)
    text = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=200)
    if options.dry_run:
        print(text, end="")
        return
    if shutil.which("kubectl") is None:
        sys.exit("error: kubectl is not on the PATH; with --dry_run the manifest is printed")
    sys.exit(subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True).returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
