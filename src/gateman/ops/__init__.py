"""What operators need beside a running worker: certificates and proxy configurations."""
