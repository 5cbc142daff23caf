"""Tests of what the product owes under attack and under load: what is what is in `README.md`.

Left for the change that brings sign-in by browser and device and shared state, since there is nothing to test yet:

A1  one refresh for a hundred requests, and across processes
A2  what a token endpoint may answer
A3  killed between a token's arrival and its saving
A4  attacks on the callback of a sign-in
A5  browser sign-ins at once, and their port taken (API keys: `test_sign_in.py`)
A6  device sign-in
T1  the expiry of tokens under a clock that is set (cooldowns and windows: `test_time.py`)
L2, N1 with Redis as the state that several servers share
"""
