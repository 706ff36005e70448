"""The only door to the store for whoever changes it: rules, change, log and audit event in one transaction."""
