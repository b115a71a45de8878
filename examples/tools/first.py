"""The first tool of docs/tools.md, and an agent that has it."""

from playhead import Agent, tool


@tool
async def greet(name: str) -> str:
    """Greet somebody.

    Args:
        name: Whom to greet.
    """
    return f"Hello, {name}!"


agent = Agent("host", tools=[greet])
