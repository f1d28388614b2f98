"""``gateman client wechat``: the module on platforms that behave as phones do, and its types."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateman.cli import gateman
from tests.support.deadlines import TIMEOUT
from tests.support.proxies import program
from tests.support.sdk import need_packages

# A platform that reports what it is told, and a clock that runs when it is told to.
PLATFORM = """
const fs = require("fs");
const vm = require("vm");
const heard = [];
const timers = [];
const context = vm.createContext({
  module: {}, heard, ArrayBuffer, Uint8Array,
  setTimeout: (callback, delay) => timers.push({ callback, delay }) - 1,
  clearTimeout: (number) => { if (number !== null) timers[number] = null; },
});
vm.runInContext(fs.readFileSync(process.argv[1], "utf8"), context);
const { webSocketClass, networkEvents, miniProgram } = context.module.exports;
const passTime = () => timers.splice(0).forEach((timer) => timer && timer.callback());
const platform = (task = {}) => {
  const made = { sent: [], closed: [], options: null };
  made.connectSocket = (options) => {
    made.options = options;
    const { nothing, ...others } = task;
    return nothing ? undefined : {
      send: (one) => made.sent.push(one),
      close: ({ code, reason }) => made.closed.push([code, reason]),
      onOpen: (listener) => { made.open = listener; },
      onMessage: (listener) => { made.message = listener; },
      onError: (listener) => { made.error = listener; },
      onClose: (listener) => { made.close = listener; },
      ...others,
    };
  };
  return made;
};
const listen = (socket) => {
  for (const name of ["onopen", "onmessage", "onerror", "onclose"]) {
    socket[name] = ({ type, data, message, code, reason, wasClean }) => {
      const rest = type === "close" ? [code, reason, wasClean] : [data || message || null];
      heard.push([type, ...rest]);
    };
  }
  return socket;
};
const connected = (phone, ...given) => {
  const socket = listen(new (webSocketClass(phone, ...given))("wss://a.test"));
  phone.open({});
  heard.length = 0;
  return socket;
};
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Print the module, and its types, into a folder."""
    folder = tmp_path_factory.mktemp("mini program")
    for options, name in (((), "js"), (("--types",), "d.ts")):
        result = CliRunner().invoke(gateman, ["client", "wechat", *options])
        assert (result.exit_code, result.stderr) == (0, "")
        (folder / f"gateman-mini-program.{name}").write_text(result.stdout)
    return folder / "gateman-mini-program.js"


def run(module: Path, script: str) -> Any:
    """Run a script that tells ``result`` in Node, and return that."""
    text = f"{PLATFORM}{script}\nconsole.log(JSON.stringify(result))"
    done = subprocess.run(
        [program("node"), "-e", text, str(module)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_connection(module: Path) -> None:
    """The events, the states and the constants are those of a browser's WebSocket."""
    actual = run(
        module,
        """
        const phone = platform();
        const WebSocket = webSocketClass(phone, { timeout: 7, url: "wss://other.test" });
        const socket = listen(new WebSocket("wss://a.test", "proto"));
        const states = [socket.readyState];
        try { socket.send("early"); } catch (error) { states.push(error.message); }
        phone.open({});
        states.push(socket.readyState);
        phone.message({ data: "hello" });
        socket.send("text");
        socket.close();
        socket.close();
        states.push(socket.readyState);
        phone.message({ data: "too late" });
        phone.close({ code: 1000, reason: "" });
        phone.close({ code: 1000, reason: "" });
        states.push(socket.readyState);
        socket.send("discarded");
        const { url, protocols, timeout, fail, complete } = phone.options;
        const result = {
          heard, states, sent: phone.sent.map((one) => one.data), closed: phone.closed,
          options: [url, protocols, timeout, typeof fail, typeof complete],
          constants: [WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED],
          timers: timers.filter(Boolean).length,
        };""",
    )

    assert actual == {
        "heard": [["open", None], ["message", "hello"], ["close", 1000, "", True]],
        "states": [0, "the connection is not open yet", 1, 2, 3],
        "sent": ["text"],
        "closed": [[1000, ""]],
        "options": ["wss://a.test", ["proto"], 7, "function", "function"],
        "constants": [0, 1, 2, 3],
        "timers": 0,
    }


@pytest.mark.parametrize("task", ["{}", "{ nothing: true }"], ids=["a task", "nothing"])
def test_a_platform_that_refuses(module: Path, task: str) -> None:
    """It calls back before the constructor has ended, when nobody listens yet."""
    actual = run(
        module,
        f"""
        const phone = platform({task});
        const connect = phone.connectSocket;
        phone.connectSocket = (options) => {{
          options.fail({{ errMsg: "url not in domain list" }});
          return connect(options);
        }};
        const socket = listen(new (webSocketClass(phone))("wss://a.test"));
        const before = heard.length;
        passTime();
        const result = {{ before, heard, state: socket.readyState }};""",
    )

    reason = "url not in domain list"
    assert actual == {
        "before": 0,
        "heard": [["error", reason], ["close", 1006, reason, False]],
        "state": 3,
    }


@pytest.mark.parametrize("then", ["", "phone.close({ code: 1006, reason: 'abnormal' });"])
def test_an_error_is_the_end(module: Path, then: str) -> None:
    """Some versions report a close behind it, and some do not: it is told once."""
    actual = run(
        module,
        f"""
        const phone = platform();
        connected(phone);
        phone.error({{ errMsg: "network is down" }});
        {then}
        const result = {{ heard, closed: phone.closed.length }};""",
    )

    reason = "network is down"
    assert actual == {"heard": [["error", reason], ["close", 1006, reason, False]], "closed": 1}


def test_a_message_that_cannot_be_sent(module: Path) -> None:
    """The connection is lost then, though the platform may not have noticed."""
    actual = run(
        module,
        """
        const phone = platform();
        connected(phone).send("text");
        phone.sent[0].fail({ errMsg: "send failed" });
        const result = heard;""",
    )

    assert actual == [["error", "send failed"], ["close", 1006, "send failed", False]]


def test_a_close_that_is_never_reported(module: Path) -> None:
    """After a while the module tells it itself; what the platform tells later is ignored."""
    actual = run(
        module,
        """
        const phone = platform();
        connected(phone).close();
        const delays = timers.map((timer) => timer.delay);
        passTime();
        phone.close({ code: 1000, reason: "at last" });
        const result = { delays, heard };""",
    )

    assert actual == {"delays": [5000], "heard": [["close", 1006, "no close frame", False]]}


def test_a_connection_that_opens_after_it_was_closed(module: Path) -> None:
    """Platforms refuse to close a socket that is not open: it is closed as soon as it is."""
    actual = run(
        module,
        """
        const phone = platform();
        const socket = listen(new (webSocketClass(phone))("wss://a.test"));
        socket.close();
        phone.open({});
        phone.close({ code: 1000, reason: "" });
        const result = { heard, closed: phone.closed };""",
    )

    assert actual == {
        "heard": [["close", 1000, "", True]],
        "closed": [[1000, ""], [1000, None]],
    }


@pytest.mark.parametrize(
    ("told", "code", "reason"),
    [
        ("{ code: 3501, reason: 'bad request' }", 3501, "bad request"),
        ("{ code: 3501, reason: '' }", 3501, "closed by the server"),
        ("{ code: 1001 }", 1001, ""),
        ("{}", 1006, ""),
        ("", 1006, ""),
    ],
)
def test_what_a_phone_keeps_of_a_close(module: Path, told: str, code: int, reason: str) -> None:
    """The SDK sees that a code is final only if there is a reason."""
    actual = run(
        module,
        f"""
        const phone = platform();
        connected(phone);
        phone.close({told});
        const result = heard;""",
    )

    assert actual == [["close", code, reason, code != 1006]]


def test_bytes_are_sent_without_what_is_around_them(module: Path) -> None:
    """The platforms send the whole buffer below a view."""
    actual = run(
        module,
        """
        const phone = platform();
        connected(phone).send(new Uint8Array([1, 2, 3, 4]).subarray(1, 3));
        const [{ data }] = phone.sent;
        const result = [data instanceof ArrayBuffer, [...new Uint8Array(data)]];""",
    )

    assert actual == [True, [2, 3]]


def test_the_network_and_the_foreground(module: Path) -> None:
    """The platform's events are those that the SDK listens for, and are left when it stops."""
    actual = run(
        module,
        """
        const on = {}, left = [];
        const { networkEventTarget } = miniProgram({
          connectSocket: () => {},
          onNetworkStatusChange: (listener) => { on.network = listener; },
          onAppShow: (listener) => { on.shown = listener; },
          offNetworkStatusChange: (listener) => left.push(listener === on.network),
          offAppShow: (listener) => left.push(listener === on.shown),
        });
        const listener = ({ type }) => heard.push(type);
        const before = Object.keys(on);
        networkEventTarget.addEventListener("offline", listener);
        networkEventTarget.addEventListener("online", listener);
        on.network({ isConnected: false });
        on.network({ isConnected: true });
        on.shown({});
        networkEventTarget.removeEventListener("offline", listener);
        on.network({ isConnected: false });
        const during = left.length;
        networkEventTarget.removeEventListener("online", listener);
        networkEventTarget.removeEventListener("online", listener);
        const old = networkEvents({});
        old.addEventListener("online", listener);
        old.removeEventListener("online", listener);
        const result = { before, heard, during, left };""",
    )

    assert actual == {
        "before": [],
        "heard": ["offline", "online", "online"],
        "during": 0,
        "left": [True, True],
    }


def test_its_types(module: Path) -> None:
    """A strict program in TypeScript may use it with the SDK, and the module keeps its types."""
    (module.parent / "node_modules").symlink_to(need_packages())
    (module.parent / "page.ts").write_text("""
import { Centrifuge } from "centrifuge";
import { miniProgram, webSocketClass } from "./gateman-mini-program";

type Connect = (options: { url: string }) => object;
declare const wx: { connectSocket: Connect };
declare const uni: { connectSocket: Connect; onAppShow(listener: () => void): void };

new Centrifuge("wss://example.com/wss", { ...miniProgram(wx, { timeout: 5000 }), token: "t" });
const socket = new (webSocketClass(uni))("wss://example.com/wss", ["centrifuge-protobuf"]);
socket.onclose = ({ code }) => console.log(code.toFixed());
// @ts-expect-error: a mini program sends text and bytes.
socket.send(1);
// @ts-expect-error: what has no connectSocket is not a mini program.
miniProgram({});
""")
    done = subprocess.run(
        [
            *(program("node"), str(need_packages() / "typescript/bin/tsc")),
            *("--noEmit", "--strict", "--skipLibCheck", "--target", "es2020"),
            *("--module", "commonjs", "--lib", "es2020,dom", "page.ts"),
        ],
        cwd=module.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
