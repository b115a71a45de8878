"""The peers, each written as its own documentation recommends. They run in environments of their own, not in ours."""
