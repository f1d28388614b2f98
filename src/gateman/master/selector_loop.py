"""One iteration of the master's loop."""

import selectors


def run_once(selector: selectors.BaseSelector, timeout: float | None) -> int:
    """Wait until a file is ready, and call the function that it was registered with."""
    # After SIGSTOP and SIGCONT the timeout is over. What processes have sent meanwhile is read
    # before the master judges them by their silence.
    ready = selector.select(timeout) or selector.select(0)
    for key, _ in ready:
        # By identity: a new file may have the number of a closed descriptor.
        # A file that one of the functions unregisters is skipped, although it was ready: a process
        # may end in the same iteration as it wrote its last line.
        if selector.get_map().get(key.fd) is key:
            key.data()
    return len(ready)
