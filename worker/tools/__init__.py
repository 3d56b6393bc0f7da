"""Built-in tools: each reaches only what its operator has named."""
