"""What crosses the network or rests on a device's disk, with a version: `device` (standard library only) and `api`."""
