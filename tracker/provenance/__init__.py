"""What really ran: facts about the code, the environment and the launch of this process.

Reads the machine, the packages and the repository; writes nothing. The doors are in `capture`.

Spec: spec/provenance.md.
"""
