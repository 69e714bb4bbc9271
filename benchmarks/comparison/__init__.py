"""All networks on the same problems, each with the same processor time."""
