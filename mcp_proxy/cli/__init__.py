"""The `proxy` command: a module a command, heavy imports inside."""
