"""Executors for engines that have none: each gives `submit` with futures of concurrent.futures.

Those of the standard library, loky, mpi4py and a Dask client need no adapter.
"""
