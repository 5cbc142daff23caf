"""What of a client's request one upstream is not sent, and why."""
