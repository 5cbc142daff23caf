"""Bytes on the wire to values and back. Pure: no clock, no socket, nothing remembered that could change a result."""
