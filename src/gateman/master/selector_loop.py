"""A turn of the master's loop: what is ready is called, as long as it is still wanted."""

import selectors


def run_once(selector: selectors.BaseSelector, patience: float | None) -> int:
    """
    Wait until something is ready, and call what it was registered with.

    What one of the called unregisters is not called any more, though it was ready as well: the
    end of a process may be told in the same turn as the last that it wrote. What was registered
    anew has its turn next.
    """
    # A master that was stopped by a signal wakes up with a timeout that is over, and nothing: what
    # has come meanwhile is read before anything is judged by its silence.
    ready = selector.select(patience) or selector.select(0)
    for key, _ in ready:
        # By identity: the number of a descriptor that was closed may be another's by now.
        if selector.get_map().get(key.fd) is key:
            key.data()
    return len(ready)
