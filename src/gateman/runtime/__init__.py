"""One process at work: event loop, services, callbacks, timers, start and stop."""
