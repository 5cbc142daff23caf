"""Ways to get a credential, a module a way."""
