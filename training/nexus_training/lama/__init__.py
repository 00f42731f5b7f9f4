"""The compact LaMa: what it is trained on, its losses and its run."""
