"""The auditor of black boxes: proof that a scorer is legal, or a witness that it is not."""
