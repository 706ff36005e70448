"""`gateway demo`: a demo API and the gateway before it, in a temporary directory, gone without a trace at the end."""
