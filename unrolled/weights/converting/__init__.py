"""Weights of other programs: read without their code, key by key, as networks of this one."""
