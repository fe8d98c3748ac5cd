"""Shared by the simulated docker and kubectl: the container of postmapd is a process with the user, environment and mounts
of its manifest; the container of Postfix is this host."""

import os
import signal
import subprocess
import sys
import time

LOG, PID = "/run/postmapd.log", "/run/postmapd.pid"


def run(*words, **options):
    return subprocess.run(words, check=True, **options)


def become(uid, gid, environment, words):
    """The command of a container process: as that user, without capabilities and without a way to gain them."""
    names = [f"{name}={value}" for name, value in environment.items()]
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
            "--no-new-privs", "--", "env", "-i", "PATH=/usr/bin:/bin", *names, *words]


def stop():
    if os.path.exists(PID):
        process = int(open(PID).read())
        try:
            os.kill(process, signal.SIGTERM)
            while os.path.exists(f"/proc/{process}"):
                time.sleep(0.01)
        except ProcessLookupError:
            pass
        os.remove(PID)


def start(command):
    """Starts the server; it outlives this program, and its log is kept."""
    stop()
    with open(LOG, "ab") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with open(PID, "w") as file:
        file.write(str(server.pid))
    # A container counts as started when its process runs; wait until the server accepts connections.
    deadline = time.monotonic() + 10
    while b"listening endpoint=" not in open(LOG, "rb").read() and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def mount(*words, at):
    """Mounts something there, replacing an existing mount."""
    os.makedirs(at, exist_ok=True)
    if os.path.ismount(at):
        run("umount", at)
    run("mount", *words, at)


def become_this(words):
    sys.stdout.flush()
    os.execvp(words[0], words)
