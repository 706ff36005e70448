"""The command line `gateway`: names, output shapes and exit codes are a contract with its users."""
