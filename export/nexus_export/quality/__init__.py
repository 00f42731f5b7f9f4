"""What an artifact's quality is measured on, how, and what it must reach."""
