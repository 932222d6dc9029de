"""The round trip: tokens really coded and decoded."""
