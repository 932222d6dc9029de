"""What a comparison is made of: sources of logits, published rules, result."""
