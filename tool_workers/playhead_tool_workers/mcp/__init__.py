"""Tools of MCP servers, hosted as a pool: https://modelcontextprotocol.io.

The only place that speaks MCP. `servers` reads what an operator says, `host` gives the tools; the rest is between them.
Of the worker it knows the contract of a tool, and nothing of queues or sessions.
"""
