"""Scoring on several ranks of torch.distributed."""
