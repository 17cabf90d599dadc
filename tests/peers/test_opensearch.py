"""The node is a real one."""

from __future__ import annotations

import json

import httpx


def test_the_node_takes_bulk_requests_and_finds_what_it_took(opensearch: str) -> None:
    lines = [{"create": {"_id": "1"}}, {"message": "hello"}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    with httpx.Client(
        base_url=opensearch, headers={"content-type": "application/x-ndjson"}
    ) as node:
        taken = node.post("/peers-probe/_bulk?refresh=true", content=body).json()
        assert not taken["errors"]
        assert node.get("/peers-probe/_doc/1").json()["_source"] == {"message": "hello"}
