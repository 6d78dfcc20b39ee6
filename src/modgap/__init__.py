"""Measure, explain and close the modality gap of embedding models, and prove what that does."""
