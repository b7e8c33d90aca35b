"""The Kubernetes launcher: its dry runs are the docs', and Kubernetes' own schemas accept them."""

import pathlib
import shlex
import stat

import pytest
import yaml

from launch import gke

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = sorted(pathlib.Path(__file__).with_name("golden").glob("gke_*.txt"))
COMMON = ["--name=text", "--image=image", "--claim=runs"]
TPU = ["tpu", *COMMON, "--accelerator=tpu-v5-lite-podslice", "--topology=4x4"]
NODES = ["nodes", *COMMON, "--processes=4"]
CONFIG = ["--", "--config=text"]
EXTRAS = ["--spot", "--env=A=b=c", "--service_account=runner"]
VERSION = "1.34"


def manifests(arguments, capsys):
    gke.main([*arguments[: arguments.index("--")], "--dry_run", *arguments[arguments.index("--") :]])
    return list(yaml.safe_load_all(capsys.readouterr().out))


def pod_of(manifest):
    if manifest["kind"] == "JobSet":
        manifest = manifest["spec"]["replicatedJobs"][0]["template"]
    return manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_dry_run_is_what_the_docs_show(path, capsys):
    command, expected = path.read_text().split("\n", 1)
    program, script, *arguments = shlex.split(command.removeprefix("$ "))
    assert (program, script) == ("python", "launch/gke.py")
    gke.main(arguments)
    assert capsys.readouterr().out == expected
    assert f"```console\n{path.read_text()}```\n" in (ROOT / "docs" / "pods_gke_tpu.md").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        [*TPU, *CONFIG],
        [*TPU, "--slices=2", *EXTRAS, *CONFIG],
        [*NODES, *CONFIG],
        [*NODES, "--gpus=8", "--node_selector=pool=gpu", *EXTRAS, *CONFIG],
        ["nodes", "--name=text", "--image=image", "--bucket=b", "--processes=1", *CONFIG],
    ],
    ids=["tpu", "slices", "cpu", "gpu", "bucket"],
)
def test_the_schemas_of_kubernetes_accept_it(arguments, capsys):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for manifest in manifests(arguments, capsys):
        if manifest["kind"] == "JobSet":  # a custom resource, which Kubernetes ships no schema of: its Job is checked
            job = manifest["spec"]["replicatedJobs"][0]["template"]
            manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, **job}
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_schemas_refuse_a_wrong_field(capsys):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    job = manifests([*NODES, *CONFIG], capsys)[1]
    pod_of(job)["terminationGracePeriod"] = 5
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSION, strict=True)


def test_processes_find_each_other(capsys):
    service, job = manifests([*NODES, *CONFIG], capsys)
    pod, name = pod_of(job), job["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed" and job["spec"]["parallelism"] == job["spec"]["completions"] == 4
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    port = service["spec"]["ports"][0]["port"]
    told = {f"--coordinator={name}-0.{name}:{port}", "--num_processes=4", "--process_id=$(JOB_COMPLETION_INDEX)"}
    assert told <= set(pod["containers"][0]["args"])


def test_a_slice_has_a_pod_per_host_with_all_its_chips(capsys):
    (jobset,) = manifests([*TPU, "--slices=2", *CONFIG], capsys)
    (slices,) = jobset["spec"]["replicatedJobs"]
    assert slices["replicas"] == 2 and slices["template"]["spec"]["parallelism"] == 4
    container = pod_of(jobset)["containers"][0]
    assert container["resources"] == {"requests": {"google.com/tpu": 4}, "limits": {"google.com/tpu": 4}}
    assert not any("coordinator" in argument for argument in container["args"])  # JAX finds the others


def test_kubernetes_leaves_the_arguments_as_they_are(capsys):
    (jobset,) = manifests([*TPU, *CONFIG, "--prompt=$(HOME)"], capsys)
    assert "--prompt=$$(HOME)" in pod_of(jobset)["containers"][0]["args"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*TPU[:-1], *CONFIG], "--topology"),
        ([*TPU[:-1], "--topology=16", *CONFIG], "2x2x4"),
        ([*TPU, "--chips=5", *CONFIG], "chips of a host divide"),
        ([*TPU, "--accelerator=v5e", *CONFIG], "tpu-v5-lite-podslice"),
        ([*TPU], "give the experiment after --"),
        ([*NODES, *CONFIG, "--process_id=0"], "--process_id is set by this launcher"),
        ([*NODES, "--bucket=b", *CONFIG], "not allowed with"),
        (["nodes", "--name=text", "--image=image", "--processes=4", *CONFIG], "--claim --bucket"),
        ([*NODES, "--processes=0", *CONFIG], "'0' is not a whole number"),
        ([*NODES, "--gpus=-1", *CONFIG], "'-1' is not a whole number of 0 or more"),
        ([*NODES, "--name=Text", *CONFIG], "a letter first"),
        ([*NODES, "--env=A", *CONFIG], "KEY=VALUE"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(SystemExit) as raised:
        gke.main(arguments)
    line = str(raised.value)
    assert line.startswith("error: ") and message in line and "\n" not in line


def test_the_manifest_goes_to_kubectl(tmp_path, monkeypatch, capsys):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\n[ "$*" = "apply -f -" ] && /bin/cat > "$SEEN"\n')
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    with pytest.raises(SystemExit) as raised:
        gke.main([*NODES, *CONFIG])
    assert raised.value.code == 0
    assert list(yaml.safe_load_all((tmp_path / "seen").read_text())) == manifests([*NODES, *CONFIG], capsys)
    kubectl.unlink()
    with pytest.raises(SystemExit, match="kubectl is not on the PATH"):
        gke.main([*NODES, *CONFIG])


def test_the_image_holds_what_is_there():
    lines = (ROOT / "launch" / "Dockerfile").read_text().splitlines()
    copied = [path for line in lines if line.startswith("COPY ") for path in line.split()[1:-1]]
    assert copied and all((ROOT / path).exists() for path in copied)
    assert lines[-1] == 'ENTRYPOINT ["tini", "--", "python", "-m", "lsd_jax.main"]'
