"""Two NFS clients on one store, in a guest with a kernel that knows NFS."""
