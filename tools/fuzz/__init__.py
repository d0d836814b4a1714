"""Arbitrary bytes as the files of a store: what is asked of it, and the answers that count."""
