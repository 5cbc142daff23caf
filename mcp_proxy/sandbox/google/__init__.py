"""A simulated Google: its sign-in and Antigravity's Cloud Code, stricter than the real ones."""
