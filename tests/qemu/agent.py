"""Runs in the guest: executes the commands that arrive on a virtio port, one at a time.

In:   {"argv": […], "cwd": "…", "environment": {…}}
Out:  {"ready": "6.1.0-…"} once, then {"output": "…"} as it comes and {"status": N} for each
command.  Bytes travel as Latin-1, so that a cut UTF-8 sequence survives.
"""

import json
import os
import select
import subprocess

PORT = "/dev/vport0p1"


def send(port: int, message: dict[str, object]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


def run(port: int, argv: list[str], cwd: str, environment: dict[str, str]) -> int:
    """Run one command; its exit status.  What it leaves running does not hold this up."""
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        send(port, {"output": f"{argv[0]}: {error.strerror}\n"})
        return 127
    assert process.stdout
    output = process.stdout.fileno()
    while True:
        ended = process.poll() is not None
        if select.select([output], [], [], 0 if ended else 0.05)[0]:
            data = os.read(output, 1 << 16)
            if data:
                send(port, {"output": data.decode("latin-1")})
                continue
            process.wait()
        elif not ended:
            continue
        process.stdout.close()
        return process.returncode


def main() -> None:
    port = os.open(PORT, os.O_RDWR)
    send(port, {"ready": os.uname().release})
    received = b""
    while True:
        data = os.read(port, 1 << 16)
        if not data:
            return
        received += data
        while b"\n" in received:
            line, received = received.split(b"\n", 1)
            send(port, {"status": run(port, **json.loads(line))})


main()
