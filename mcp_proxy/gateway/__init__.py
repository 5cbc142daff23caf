"""One request's life: who serves it, the attempts, the answer; and what is known of the accounts meanwhile."""
