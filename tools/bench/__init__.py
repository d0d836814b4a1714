"""What tracker costs beside what the operating system asks: `python -m tools.bench`."""
