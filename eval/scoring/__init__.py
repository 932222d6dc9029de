"""What a score is made of, from documents in tokens to the figures of the result."""
