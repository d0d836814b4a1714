"""What happens to a store when everything happens to it: `python -m tools.storm`."""
