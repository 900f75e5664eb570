"""Runs commands one after the other and says what they took: a small process, so that its memory hides nobody's.

    python -I -S launch.py < JOB > RESULT

JOB is a JSON object: `steps`, a list of commands; `log`, the file for what they say; `clock`, a file that a step may write
two moments to, in seconds, when it knows better than this when its work begins and ends. The kernel counts the memory of
whoever starts a process to its peak, so no peak below this program's own 10 MB can be told.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time


def main() -> None:
    job = json.load(sys.stdin)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    files = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    failed = None
    start = time.perf_counter()
    for step in job["steps"]:
        pid = os.posix_spawnp(step[0], step, os.environ, file_actions=files)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            failed = [code, step]
            break
    wall = time.perf_counter() - start
    if os.path.exists(job["clock"]):
        with open(job["clock"]) as clock:
            begin, end = map(float, clock.read().split())
        wall = end - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024, "failed": failed}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
