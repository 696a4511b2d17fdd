"""Chat templates, stop tokens, control tokens typed by users, and the token budget of a dialogue."""
