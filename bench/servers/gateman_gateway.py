"""The echo through a gateway and a business worker, a process each, as a user would write it."""

import argparse
import logging

from gateman import BusinessWorker, Gateway, hub


def echo(client_id: str, message: str | bytes) -> None:
    """Send back what came, as it came."""
    hub.send_to_client(client_id, message)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", help="PEM with the key in it; without, plain ws")
    parser.add_argument("--bus", help="the URL of a bus in place of the router")
    arguments = parser.parse_args()
    pem = arguments.certificate
    Gateway(
        f"websocket://127.0.0.1:{arguments.port}",
        {"ssl": {"local_cert": pem, "local_pk": pem}} if pem else None,
        transport="ssl" if pem else "tcp",
        limits={"max_connections_per_ip": None, "max_handshakes_per_second": None},
        bus=arguments.bus,
    )
    business = BusinessWorker(bus=arguments.bus)
    business.on_message = echo
    logging.getLogger("gateman").setLevel(logging.WARNING)
    Gateway.run_all()


if __name__ == "__main__":
    main()
