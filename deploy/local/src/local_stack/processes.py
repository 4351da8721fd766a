"""Processes of a stack, found by the mark in their environment, whoever their parent is.

Two servers write their title over their environment; they are known by name and working directory.
"""

from pathlib import Path

import psutil

from local_stack.supervisor import STACK_VARIABLE

KILL_WAIT_SECONDS = 10.0
_UNMARKED = frozenset({"nginx", "redis-server"})


def of_stack(stack_directory: Path) -> list[psutil.Process]:
    """Every living process that belongs to the stack, except the caller and its parents."""
    this = psutil.Process()
    spared = {this.pid, *(parent.pid for parent in this.parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in spared or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if _belongs(process, stack_directory):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _belongs(process: psutil.Process, stack_directory: Path) -> bool:
    if process.environ().get(STACK_VARIABLE) == str(stack_directory):
        return True
    return process.name() in _UNMARKED and Path(process.cwd()).is_relative_to(stack_directory)


def end_all(stack_directory: Path) -> list[str]:
    """Kill what is left of a stack; for strays, whose supervisor is gone.

    Returns:
        One line for each process that had to be killed.
    """
    killed: dict[int, str] = {}
    # A process that is killed may have just forked: look again until nothing is left.
    for _ in range(5):
        strays = of_stack(stack_directory)
        if not strays:
            break
        for process in strays:
            try:
                killed[process.pid] = f"{process.pid} {process.name()}"
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(strays, timeout=KILL_WAIT_SECONDS)
    return list(killed.values())
