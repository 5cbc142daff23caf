"""Anthropic Messages to Gemini's `GenerateContentRequest` and its answers back, for every model behind that wire."""
