"""What comes after: reports of sparsity, and networks that are physically smaller."""
