"""What was asked, who answered, and what it took: a row for every request."""
