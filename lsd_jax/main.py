"""Entry point: `python -m lsd_jax.main --config=configs/text.py`. Short on purpose: the stages are in experiment/stages.py."""

import functools
import io
import os
import pathlib
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lsd_jax import agreement, startup
from lsd_jax.errors import InputError
from lsd_jax.experiment import stages
from lsd_jax.experiment.arguments import parse
from lsd_jax.files import checked_path

_SAMPLING = ("student", "sampler", "steps", "prompt", "guidance", "num_samples", "output")
_JOINING = ("coordinator", "num_processes", "process_id", "local_device_ids", "join_timeout")
FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file, or the name of a shipped config: text.", lock_config=True
)
flags.DEFINE_string("workdir", "", "Run directory; by default runs/ and the config's name.")
flags.DEFINE_enum("stage", "all", (*stages.STAGES, "sample"), "What to run; a finished stage is not run again.")
flags.DEFINE_string("student", "", "--stage=sample: a student.json.")
flags.DEFINE_string("sampler", "", "--stage=sample without a student: any kernel or event sampler by name.")
flags.DEFINE_integer("steps", 0, "--stage=sample --sampler=NAME: equal steps, or an event sampler's budget.")
flags.DEFINE_string(
    "prompt",
    "",
    '--stage=sample: how every sequence starts. "_" is filled in, wherever it stands, in our text, in proteins and in molecules '
    "(SMILES or SELFIES, which get as many tokens as the prompt has; under uniform noise at most as many). "
    '"logP=2.2", or that and a molecule, asks networks of such molecules. A published model reads it by its tokenizer.',
)
flags.DEFINE_float(
    "guidance", 1.0, "--stage=sample --prompt: how much it counts; 1: what it says, above 1: more.", lower_bound=0.0
)
flags.DEFINE_integer("num_samples", 8, "--stage=sample: how many sequences.", lower_bound=1)
flags.DEFINE_string("output", "", "--stage=sample: a text file to write instead of printing.")
flags.DEFINE_bool("distributed", False, "Join the other processes of a pod through jax.distributed.initialize().")
flags.DEFINE_string("coordinator", None, "--distributed outside a pod or SLURM: address HOST:PORT of process 0.")
flags.DEFINE_integer("num_processes", None, "--distributed outside a pod or SLURM: how many processes.")
flags.DEFINE_integer("process_id", None, "--distributed outside a pod or SLURM: which of them this is.")
flags.DEFINE_list("local_device_ids", None, "--distributed: numbers of the GPUs of this process, 0,1; never on TPUs.")
flags.DEFINE_integer("join_timeout", 300, "--distributed: seconds to wait for the other processes.", lower_bound=1)


def main(typed: Sequence[str], argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    config = _CONFIG.value
    if config.cpu_devices:
        jax.config.update("jax_num_cpu_devices", config.cpu_devices)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 ends no finished run
    given = [name for name in _JOINING if FLAGS[name].present]
    if given and not FLAGS.distributed:
        sys.exit(f"error: --{given[0]}: goes with --distributed")
    given = [name for name in _SAMPLING if FLAGS[name].present]
    if given and FLAGS.stage != "sample":
        sys.exit(f"error: --{given[0]}: goes with --stage=sample")
    if FLAGS.distributed:
        ids = FLAGS.local_device_ids
        if ids is not None and not (ids and all(part.strip().isdecimal() for part in ids)):
            sys.exit(f"error: --local_device_ids={','.join(ids)}: must be numbers of devices, for example 0,1")
        try:
            numbers = None if ids is None else [int(part) for part in ids]
            startup.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, numbers, FLAGS.join_timeout)
        except InputError as error:
            sys.exit(f"error: {error}")
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax's own, where a platform has no device
        reason = (str(error).splitlines() or ["no such device here"])[0]
        sys.exit(f"error: JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')!r}: {reason}")
    agreement.barrier("started")  # the first message between processes, which may not wait long: now all are here
    logging.info("process %d of %d, devices %s", jax.process_index(), jax.process_count(), devices)
    name = pathlib.Path(FLAGS["config"].config_filename).name.replace(".py", "").replace(":", "_")
    try:
        workdir = checked_path("--workdir", FLAGS.workdir or f"runs/{name}")
        if FLAGS.stage == "sample":
            chosen = {"student": FLAGS.student, "name": FLAGS.sampler, "steps": FLAGS.steps, "prompt": FLAGS.prompt}
            chosen["guidance"] = FLAGS.guidance
            stages.sample(config, workdir, **chosen, count=FLAGS.num_samples, output=FLAGS.output)
        else:
            stages.run(config, workdir, FLAGS.stage, command=" ".join(["python -m lsd_jax.main", *typed]))
    except (InputError, OSError) as error:
        if FLAGS.verbosity >= 1:  # --verbosity=1 shows where it came from
            raise
        _leave(f"error: {error}")
    except Exception as error:
        if jax.process_count() == 1:
            raise
        told = "error: another process of this run has ended; see its log" if is_of_another(error) else ""
        _leave(traceback.format_exc() + told)


def is_of_another(error: Exception) -> bool:
    """Whether an error is what the others see of a process that has died: jax raises it as one class or another."""
    return isinstance(error, jax.errors.JaxRuntimeError) or any(name in str(error) for name in ("Gloo", "NCCL"))


def _leave(message: str) -> NoReturn:
    """Ends with exit code 1; one of several processes at once, since an orderly end would wait for the others."""
    if jax.process_count() == 1:
        sys.exit(message)
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def cli() -> None:
    """Console entry."""
    flags.mark_flag_as_required("config")
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(lambda record: record.levelno >= 40 or "lsd_jax" in record.pathname)
    app.run(functools.partial(main, sys.argv[1:]), flags_parser=parse)


if __name__ == "__main__":
    cli()
