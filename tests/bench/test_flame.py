"""What the profile says of where time goes."""

from __future__ import annotations

from bench.flame import shares

FOLDED = """<module> (playhead:8);run (playhead_cli/launch.py:27);append (playhead/log.py:9) 6
<module> (playhead:8);run (playhead_cli/launch.py:27);append (playhead/log.py:31);seal (playhead/codec.py:2) 2
send (aiohttp/client.py:5) 2
"""


def test_a_function_has_the_share_of_the_samples_that_it_was_in_whatever_it_called_and_wherever_it_was():
    found = {name: share for share, name in shares(FOLDED)}
    assert found["append (playhead/log.py)"] == 0.8
    assert found["seal (playhead/codec.py)"] == 0.2
    assert not any("aiohttp" in name for name in found)


def test_a_process_that_did_nothing_has_no_shares():
    assert shares("") == []
