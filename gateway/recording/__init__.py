"""The spool: where a worker puts a request on record without a system call, for the control process to read."""
