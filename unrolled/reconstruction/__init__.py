"""What is done with trained networks and with classical methods: reconstruct, evaluate, perturb."""
