"""Certificates by themselves (ACME, RFC 8555): ordered, stored and renewed without anyone."""
