"""Who asks: what turns a request into a `Principal`. What a principal may do is decided by `playhead_gateway.entry`."""
