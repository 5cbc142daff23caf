"""The Messages API on a socket: BlackSheep under uvicorn, with guards on every bound."""
