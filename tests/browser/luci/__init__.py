"""LuCI's pages in a node: its client is a stub, its end on the router a small server.

The views, the shared module, the access list and rpcd's plugin are the checkout's; uhttpd, rpcd
and uci are stood in for here, as far as the views see them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mproutd.configuration.uci_parser import parse_statements
from tests.browser.programs import install_command
from tests.lab import CONFIG_DIR, RUNTIME_DIR, Daemon
from tests.lab.daemon import REPOSITORY
from tests.lab.openwrt import BUSYBOX
from tests.lab.ubus import BIN

PORT = 8080
URL = f"http://127.0.0.1:{PORT}/"
STATUS = f"{URL}?view=view.mproutd.status"
CONFIGURATION = f"{URL}?view=view.mproutd.configuration"
OVERVIEW = f"{URL}?view=view.status.include.35_mproutd"
APP = REPOSITORY / "packaging/openwrt/luci-app-mproutd"
PLUGIN = REPOSITORY / "packaging/openwrt/mproutd/files/usr/libexec/rpcd/mproutd"
RESOURCES = "/luci-static/resources/"
KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
DENIED = {"code": -32002, "message": "Access denied"}

_PAGE = """\
<!DOCTYPE html>
<html lang="{language}"><head><meta charset="utf-8"><title>LuCI</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>body {{ background: {background}; color: {colour}; font-family: sans-serif }}
label {{ display: block }}</style></head>
<body><main><h1>LuCI</h1><div id="view"></div></main>
<script type="application/json" id="settings">{settings}</script><script src="/stub.js"></script>
</body></html>
"""


class Uci:
    """The files of a folder, as `uci` reads and writes them; changes wait for apply()."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged: dict[str, dict[str, dict[str, Any]]] = {}

    def get(self, config: str) -> dict[str, dict[str, Any]]:
        """The sections by name, their type as ".type"."""
        if config in self._staged:
            return self._staged[config]
        file, sections = self._folder / config, {}
        section: dict[str, Any] = {}
        for statement in parse_statements(config, file.read_text() if file.exists() else ""):
            if statement.keyword == "config":
                section = {".type": statement.name}
                sections[statement.value or f"cfg{len(sections):06x}"] = section
            elif statement.keyword == "list":
                section.setdefault(statement.name, []).append(statement.value)
            else:
                section[statement.name] = statement.value
        return self._staged.setdefault(config, sections)

    def change(self, method: str, arguments: dict[str, Any]) -> None:
        sections = self.get(arguments["config"])
        if method == "add":
            sections[arguments["name"]] = {".type": arguments["type"]}
        elif method == "set":
            section = sections.setdefault(arguments["section"], {".type": arguments["type"]})
            section.update(arguments["values"])
        else:
            del sections[arguments["section"]][arguments["option"]]

    def apply(self) -> None:
        for config, sections in self._staged.items():
            lines = []
            for name, options in sections.items():
                lines.append(f"\nconfig {options['.type']} '{name}'")
                for key, value in options.items():
                    if isinstance(value, list):
                        lines += [f"\tlist {key} '{item}'" for item in value]
                    elif key != ".type":
                        lines.append(f"\toption {key} '{value}'")
            (self._folder / config).write_text("\n".join(lines) + "\n")
        self._staged.clear()


class Luci:
    """The server beside `daemon`, for a session that may `write` or only read.

    Use as a context manager.  `catalog` is the language's: text → translation.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        write: bool = True,
        read: bool = True,
        interval: float = 1.0,
        language: str = "en",
        catalog: dict[str, str] | None = None,
    ) -> None:
        self.daemon = daemon
        install_command(daemon)
        (acl,) = json.loads(
            (APP / "root/usr/share/rpcd/acl.d/luci-app-mproutd.json").read_text()
        ).values()
        self._granted = [acl["read"]] * read + [acl["write"]] * write
        self.uci = Uci(daemon.node.path(CONFIG_DIR))
        self.language = language
        self.settings = {
            "session": "0" * 32,
            "interval": interval,
            "writable": write,
            "catalog": catalog or {},
        }
        luci = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                luci.get(self)

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                requests = json.loads(self.rfile.read(size))
                send_reply(
                    self,
                    json.dumps([luci.ubus(request) for request in requests]),
                    "application/json",
                )

            def log_message(self, *_: object) -> None:
                pass

        with daemon.node.enter():
            self._server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        if parts.path == "/":
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            dark = query.get("theme") == "dark"
            settings = {**self.settings, "view": query["view"]}
            page = _PAGE.format(
                language=self.language,
                background="#222" if dark else "#fff",
                colour="#eee" if dark else "#111",
                settings=json.dumps(settings).replace("<", "\\u003c"),
            )
            return send_reply(handler, page, "text/html")
        file = self._file(parts.path)
        if file is None or not file.is_file():
            return handler.send_error(404)
        return send_reply(handler, file.read_text(), KINDS[file.suffix])

    @staticmethod
    def _file(path: str) -> Path | None:
        """As the package installs them: the app's own, and what it shares with Cockpit."""
        if path == "/stub.js":
            return Path(__file__).with_name("stub.js")
        if not path.startswith(RESOURCES) or ".." in path:
            return None
        own = APP / "htdocs" / path.lstrip("/")
        return own if own.exists() else REPOSITORY / "web/page" / Path(path).name

    def ubus(self, message: dict[str, Any]) -> dict[str, Any]:
        """One call of JSON-RPC; what the session may is what the access list says."""
        _, name, method, arguments = message["params"]
        if name == "uci":
            allowed = any(
                arguments.get("config", "network") in grant["uci"] for grant in self._granted
            )
            changes = method != "get"
            allowed = allowed and (not changes or self.settings["writable"])
        else:
            allowed = any(method in grant["ubus"].get(name, ()) for grant in self._granted)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if not allowed:
            return {**reply, "error": DENIED}
        return {**reply, "result": [0, self._call(name, method, arguments)]}

    def _call(self, name: str, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name == "uci":
            if method == "get":
                return {"values": self.uci.get(arguments["config"])}
            if method == "apply":
                self.uci.apply()
                assert self.daemon.process
                self.daemon.process.send_signal(signal.SIGHUP)  # procd does, of a changed file
            else:
                self.uci.change(method, arguments)
            return {}
        path = f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            self.daemon.node.command(
                *("env", "-i", f"PATH={path}", f"MPROUTD_RUNTIME_DIR={RUNTIME_DIR}"),
                *(BUSYBOX, "sh", str(PLUGIN), "call", method),
            ),
            input=json.dumps(arguments),
            text=True,
            capture_output=True,
            check=True,
        )
        answered: dict[str, Any] = json.loads(done.stdout)
        return answered

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Luci:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send_reply(handler: BaseHTTPRequestHandler, body: str, kind: str) -> None:
    data = body.encode()
    handler.send_response(200)
    handler.send_header("Content-Type", f"{kind}; charset=utf-8")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
