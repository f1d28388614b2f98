r"""
How commands talk to a running master: a unix socket, a line of JSON each way.

A command connects to the control socket of its script (:mod:`gateman.master.files`), writes one
request, and reads one answer. The socket is its owner's only (0600). A request is at most 4 KiB.

Wire format:
    ::

        {"command": "status"}\n                          →
        ← {"ok": true, ...}\n                            or
        ← {"ok": false, "error": "one sentence."}\n

Commands:
    ``status``
        Answered within 100 ms, with what the processes last said of themselves if they are busy.

        ``master``
            ``version``, ``pid``, ``script``; ``state`` (``starting``, ``running``, ``reloading``,
            ``stopping``); ``uptime`` in seconds; ``started_time`` in seconds since 1970.
        ``workers``
            A list: ``name``, ``listen`` (such as ``wss://0.0.0.0:8282``), ``count``.
        ``slots``
            A list, in order:

            * ``worker``: the name; ``listen``; ``slot``: 0 to ``count - 1``;
            * ``state``: ``starting``, ``running``, ``waiting`` (to be started again, in
              ``respawn_in`` seconds) or ``given_up``;
            * ``restarts``: how many processes were started in place of one that had ended;
            * ``last_exit``: in words, and ``last_lines``: the last lines that it wrote to its
              standard error; ``null`` and empty while none has failed;
            * ``processes``: usually one; more while a process is being replaced:

              * ``pid``; ``uptime`` in seconds; ``memory`` in bytes, resident, ``null`` if unknown;
              * ``status``: ``idle`` (it answered just now), ``busy`` (it did not), ``starting``,
                ``draining`` or ``stopped`` (by SIGSTOP);
              * and, ``null`` until it has said so: ``connections``; ``messages`` received;
                ``qps``, messages received per second lately; ``send_fail``, messages dropped;
                ``timers``; ``lag``, by how many seconds its event loop was late, at worst in the
                last seconds; ``counts``, how often each cause happened, with what was dropped
                and refused among them; ``certificate_days``, until the first of its certificates
                expires.

    ``connections``
        ``limit`` may say how many of each process are listed, 1000 if not.

        ``connections`` is a list: ``pid``, ``worker``, ``slot``; ``id``; ``client`` (address and
        port), ``proxy`` (the address of the proxy that it came through, else ``null``);
        ``state``; ``unsent``, bytes that wait in the process; ``received`` and ``sent``, bytes on
        the wire with TLS, ``null`` where the system does not count them; ``messages`` received;
        ``age`` in seconds; ``uid``, what the application knows it as, or ``null``.
        ``total`` is how many there are; ``silent`` lists the pids that did not answer.

    ``stop``
        ``graceful`` may be true. The answer (with ``pid``) comes at once, and the end of the
        connection when the master has ended.

    ``reload``
        ``gently`` may be true: one slot after the other, each when the one before has drained.
        The answer comes when every slot has its new process, or says why not.

    ``hangup``
        Re-read certificates and reopen logs, as SIGHUP does.
"""
