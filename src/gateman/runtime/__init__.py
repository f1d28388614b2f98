"""One process at work: its services, the application's callbacks, timers, start and end."""
