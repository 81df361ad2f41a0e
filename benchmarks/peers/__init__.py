"""One file a library: its functions for our quantities, mapped to ∂φ_j/∂β_i, shape (n, k).

Each file has PACKAGE, the name it is installed under, and QUANTITIES, functions of a `Task`.
"""
