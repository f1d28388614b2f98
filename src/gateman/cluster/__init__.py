"""
The hub: clients, users and groups of all processes, sending to them, and queries about them.

``from gateman import hub`` gives this process's :class:`~.hub.Hub`.
"""
