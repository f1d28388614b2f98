"""The echo through a gateway and a business worker, a process each, as a user would write it."""

import logging

import command_line

from gateman import BusinessWorker, Gateway, hub


def echo(client_id: str, message: str | bytes) -> None:
    """Send back what came, as it came."""
    hub.send_to_client(client_id, message)


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--bus", help="the URL of a bus in place of the router")
    arguments = parser.parse_args()
    Gateway(
        **command_line.listening(arguments),
        limits={"max_connections_per_ip": None, "max_handshakes_per_second": None},
        bus=arguments.bus,
    )
    business = BusinessWorker(bus=arguments.bus)
    business.on_message = echo
    logging.getLogger("gateman").setLevel(logging.WARNING)
    Gateway.run_all()


if __name__ == "__main__":
    main()
