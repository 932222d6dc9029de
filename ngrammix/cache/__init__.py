"""The n-gram cache: exact tables, their eviction, and what they say of each token."""
