"""The way to a service up to TLS and its certificates: URL, name, addresses, TCP, TLS, chains."""
