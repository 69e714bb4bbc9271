"""What keeps a run safe: checkpoints, a lock, signals, and a record of its environment."""
