"""
The doctor: why a client cannot connect, and what to change.

Probes look and judge nothing; judgement is pure: what the probes saw goes in, findings come out.
A part of the way has a package with both: ``network`` (the name, TCP, TLS and certificates),
``upgrade`` (the HTTP answer and the WebSocket), ``lasting`` (what only time, size or number shows)
and ``service`` (a service seen from its own machine).
"""
