"""What every room stands on: arrays, checks, moments, extras; one place each. Not public."""
