"""How pictures look: one theme for reports and figures."""
