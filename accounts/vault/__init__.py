"""Where credentials are kept: sealed, replaced whole, never half."""
