"""Text: which prompts are painted, and how they become tokens. Knows no networks."""
