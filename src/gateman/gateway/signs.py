"""Signs of life between gateways and business processes, and what silence means. PURE."""

# Seconds; both sides give one so often.
BEAT_INTERVAL = 1.0

# Seconds; how often it is looked whether somebody is silent.
STEP = 0.25

# Seconds after the bus was away in which its word is not taken that somebody is gone: others
# find back to it after pauses that grow and are random.
RETURN = 5.0


def patience(url: str) -> float:
    """
    Tell for how long a bus may say that a process is gone until it is believed.

    Args:
        url: The bus's.

    Returns:
        Seconds. A process may lose one server of a cluster, and go on with another; the router
        of a machine is lost by all at once.
    """
    return 0.0 if url.startswith("local:") else 1.5
