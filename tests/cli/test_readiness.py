"""Whether what was started answers, also where the token of the first start is worth nothing any more."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kasbah import proc
from kasbah.cli import readiness
from kasbah.cli.addresses import Address
from kasbah.cli.processes import Process
from kasbah.cli.record import DataFolder


@pytest.fixture(params=[401, 403, 500])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, Address]]:
    """An API that answers every question so."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield request.param, Address("127.0.0.1", server.server_port)
        server.shutdown()


def test_an_api_that_refuses_our_token_answers(answering: tuple[int, Address], tmp_path: Path) -> None:
    status, api = answering
    (tmp_path / "agent").mkdir()
    own = proc.look(os.getpid())
    assert own is not None
    (tmp_path / "agent" / "endpoint.json").write_text(json.dumps({"pid": own.pid, "gateway": "127.0.0.1:8080"}))
    folder = DataFolder(tmp_path)
    folder.admin_token.parent.mkdir(parents=True, exist_ok=True)
    folder.admin_token.write_text("kst_revoked")
    found = readiness.gateway(folder, api, Process(pid=own.pid, started=own.start_time))
    assert found == (None if status == 500 else "127.0.0.1:8080")
