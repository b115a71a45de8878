"""How a tool team tests its tools: no broker, no worker, no clock."""

import pytest
from first import greet
from playhead.errors import Invalid

pytestmark = pytest.mark.anyio


async def test_it_greets() -> None:
    came = await greet.test(name="Ada")
    assert came.value == "Hello, Ada!"


async def test_it_wants_a_name() -> None:
    with pytest.raises(Invalid, match="name: Field required"):
        await greet.test()
