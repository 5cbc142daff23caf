"""Who may be used upstream: accounts, their credentials, and how they are kept."""
