"""The whole proxy under everything at once: many clients, upstreams that break, kills, full disks, edits.

`python -m benchmarks.soak` runs it and tells how it went; the tests run it too, and shorter.

`history.py`  what each client was given, and the rules that it must keep. Pure
`client.py`   a client of bare bytes, so that a cut is seen as what it is
`proxy.py`    the proxy as a process of its own
`trouble.py`  what goes wrong, and the plan of it that a seed makes
`drive.py`    all of it together
"""
