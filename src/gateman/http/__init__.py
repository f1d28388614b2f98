"""HTTP without I/O: answers to plain requests, and the client's address behind proxies."""
