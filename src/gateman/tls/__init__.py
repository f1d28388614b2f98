"""TLS: certificates, contexts, PHP's options, client certificates, and why a handshake failed."""
