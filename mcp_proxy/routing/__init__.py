"""Which account serves a request, and what each outcome teaches. Pure: time and pool are arguments."""
