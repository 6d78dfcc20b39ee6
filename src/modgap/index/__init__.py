"""Real indexes: what each keeps of the exact answers, and closures inside them."""
