"""Nouns and ports that every room may use. Nothing here does anything."""
