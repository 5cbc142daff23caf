"""A SQLite file that several parts of the program, and several processes, keep their tables in."""
