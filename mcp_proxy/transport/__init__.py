"""The way to the upstreams: the HTTP client behind the `Transport` port."""
