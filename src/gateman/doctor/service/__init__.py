"""
A service seen from its own machine: what is declared, what runs, and the proxy in front of it.

It decides what cannot be told from outside, such as the causes of a 502.
"""
