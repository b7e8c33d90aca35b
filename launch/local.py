"""Runs one experiment in several processes on this machine, as a pod would.

python launch/local.py --processes=2 -- --config=configs/countdown.py --workdir=runs/two
"""

import shlex
import signal
import socket
import subprocess
import sys
import time

from absl import app, flags

_PROCESSES = flags.DEFINE_integer("processes", 2, "How many processes.", lower_bound=1)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands instead of running them.")


def commands(arguments: list[str], processes: int, address: str) -> list[list[str]]:
    """The command line of every process."""
    shared = [sys.executable, "-m", "lsd_jax.main", *arguments, "--distributed", f"--coordinator={address}"]
    return [[*shared, f"--num_processes={processes}", f"--process_id={index}"] for index in range(processes)]


def main(argv: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    lines = commands(argv[1:], _PROCESSES.value, address)
    if _DRY_RUN.value:
        print("\n".join(shlex.join(line) for line in lines))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the processes, as Ctrl+C does
    running = [subprocess.Popen(line) for line in lines]
    try:
        # One that fails takes the others with it: they would wait for it forever.
        while all(process.poll() in (None, 0) for process in running) and any(p.poll() is None for p in running):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
        codes = [process.wait() for process in running]
    sys.exit(max(abs(code) for code in codes))


if __name__ == "__main__":
    app.run(main)
