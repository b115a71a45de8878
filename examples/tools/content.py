"""What tools return: declared shapes, pictures, files. And a command that runs in a sandbox."""

import sys

from playhead import File, Image, Sandbox, ToolContext, ToolFailed, tool
from pydantic import BaseModel

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


# begin: shape
class Forecast(BaseModel):
    """The weather to come."""

    city: str
    degrees: float
    rain: bool


@tool
async def forecast(city: str) -> Forecast:
    """Tell tomorrow's weather."""
    return Forecast(city=city, degrees=21.5, rain=False)


# end: shape


# begin: blocks
@tool
async def chart(metric: str) -> list[str | Image | File]:
    """Draw a metric."""
    return [f"{metric}, last week:", Image(PIXEL), File(b"%PDF-1.4 ...", name=f"{metric}.pdf")]


# end: blocks


# begin: sandbox
@tool(sandbox=Sandbox(memory_mb=256, cpu_seconds=5), timeout=20)
async def run_python(code: str, ctx: ToolContext) -> str:
    """Run a Python program and give what it prints."""
    ran = await ctx.run([sys.executable, "-I", "-c", code])
    if ran.exit_code != 0:
        raise ToolFailed(ran.stderr or f"it ended with {ran.exit_code}")
    return ran.stdout


# end: sandbox
