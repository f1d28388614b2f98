"""
Real browsers, headless, that verify certificates as a person's browser does.

A browser is started with a home or profile of its own, whose certificate store holds the
authorities that the test gives and nothing else; no flag that loosens a check is used. The
given names lead to loopback. Both browsers are driven over a WebSocket that carries JSON
commands: Chromium by its DevTools protocol, Firefox by WebDriver BiDi.

Every wait has a deadline, and a browser is ended with its whole process group.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ClassVar, Self

from websockets.sync.client import connect

START_TIMEOUT = 60.0  # seconds: a cold start on a loaded machine with two cores
COMMAND_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 60.0  # seconds: the kernel takes its time on a loaded machine


class BrowserError(Exception):
    """The browser refused a command, or the script that it ran threw an exception."""


class Browser(ABC):
    """
    A headless browser with one page; a context manager.

    Args:
        authorities: PEM texts of the certificate authorities to trust.
        names: Host names that lead to 127.0.0.1.
    """

    programs: ClassVar[tuple[str, ...]]
    """Names of the executable, the first that exists is taken."""

    def __init__(self, authorities: Sequence[str] = (), names: Sequence[str] = ()) -> None:
        self._authorities = authorities
        self._names = names
        self._command_number = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._home = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
            self._prepare()
            self._process = stack.enter_context(self._running())
            # No pings: a browser that runs a long script answers none. Answers have no bound.
            remote = connect(
                self._wait_for_address(), proxy=None, max_size=None, ping_interval=None
            )
            self._remote = stack.enter_context(remote)
            self._attach()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @classmethod
    def missing(cls) -> str | None:
        """
        Tell what this machine lacks to run this browser.

        Returns:
            One sentence, or ``None`` if nothing is missing.
        """
        if cls._program() is None:
            return f"{cls.__name__} is not installed ({' or '.join(cls.programs)})."
        if shutil.which("certutil") is None:
            return "certutil is not installed (libnss3-tools)."
        return None

    @abstractmethod
    def open(self, url: str) -> None:
        """
        Load ``url`` in the page and wait until it is loaded.

        Raises:
            BrowserError: It could not be loaded; the text has the browser's own reason.
        """

    def paste(self, lines: str) -> None:
        """
        Run statements in the page, as lines pasted into its console are.

        Args:
            lines: The statements; a page's policy on scripts does not bind them.

        Raises:
            BrowserError: They threw.
        """
        self._run(f"{lines}\n;null", COMMAND_TIMEOUT)

    def evaluate(self, script: str, *, timeout: float = COMMAND_TIMEOUT) -> Any:
        """
        Run a JavaScript expression in the page, and wait for it if it is a promise.

        Args:
            script: An expression; its value must be JSON.
            timeout: Seconds that it may take.

        Returns:
            Its value; ``undefined`` and ``null`` are ``None``.

        Raises:
            BrowserError: The script threw.
            TimeoutError: It took longer.
        """
        # As JSON text, so that both browsers' value types need no conversion of ours.
        text = self._run(f"(async () => JSON.stringify(await ({script})))()", timeout)
        return None if text is None else json.loads(text)

    @classmethod
    def _program(cls) -> str | None:
        return next(filter(None, map(shutil.which, cls.programs)), None)

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the browser reads when it starts."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line."""

    @abstractmethod
    def _address(self) -> str | None:
        """Return where it takes commands, or ``None`` while it has not written it."""

    @abstractmethod
    def _attach(self) -> None:
        """Begin the session and remember the page."""

    @abstractmethod
    def _run(self, script: str, timeout: float) -> str | None:
        """Run a script that is a promise of a string."""

    def _trust(self, store: Path) -> None:
        """Make an NSS certificate store that holds the given authorities."""
        store.mkdir(parents=True)
        database = ["certutil", "-d", f"sql:{store}"]
        subprocess.run([*database, "-N", "--empty-password"], check=True, timeout=START_TIMEOUT)
        for number, authority in enumerate(self._authorities):
            subprocess.run(
                [*database, "-A", "-t", "C,,", "-n", f"authority {number}"],
                input=authority.encode(),
                check=True,
                timeout=START_TIMEOUT,
            )

    def _wait_for_address(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT
        while (address := self._address()) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._home / "stderr.txt").read_text(errors="replace")[-2000:]
                raise BrowserError(f"{type(self).__name__} did not start:\n{said}")
            time.sleep(0.05)
        return address

    def _call(self, method: str, *, timeout: float = COMMAND_TIMEOUT, **envelope: Any) -> Any:
        self._command_number += 1
        number = self._command_number
        self._remote.send(json.dumps({"id": number, "method": method, **envelope}))
        deadline = time.monotonic() + timeout
        while True:
            try:
                answer = json.loads(self._remote.recv(max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                raise TimeoutError(f"{method} did not end within {timeout:g} s") from None
            # Anything else is an event, or the answer to a command that timed out.
            if answer.get("id") == number:
                break
        if "error" in answer:
            raise BrowserError(f"{method}: {answer.get('message') or answer['error']}")
        return answer["result"]

    @contextmanager
    def _running(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self._home / "stderr.txt").open("wb") as stderr:
            process = subprocess.Popen(
                self._command(),
                env={**os.environ, "HOME": str(self._home), "XDG_DATA_HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # A group of its own, so that its helpers end with it.
                start_new_session=True,
            )
        try:
            yield process
        finally:
            # Nothing of it is kept, so it need not end in order.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_TIMEOUT)


class Chromium(Browser):
    """Debian's Chromium, by the DevTools protocol."""

    programs = ("chromium", "chromium-browser", "google-chrome")

    def open(self, url: str) -> None:
        """
        Load ``url`` in the page and wait until it is loaded.

        Raises:
            BrowserError: It could not be loaded; the text has a ``net::ERR_…``.
        """
        answer = self._call("Page.navigate", sessionId=self._session, params={"url": url})
        if error := answer.get("errorText"):
            raise BrowserError(f"{url}: {error}")
        # The new document is there as soon as navigate answers; its load event may not be.
        self.evaluate(
            "document.readyState === 'complete' ||"
            " new Promise(loaded => addEventListener('load', () => loaded(true)))"
        )

    def resize(
        self, width: int, height: int, *, dark: bool = False, is_phone: bool = False
    ) -> None:
        """
        Give the page a size in CSS pixels, a colour scheme, and a phone's viewport and touch.

        Args:
            width: In CSS pixels.
            height: In CSS pixels.
            dark: Whether ``prefers-color-scheme`` is dark.
            is_phone: Whether it behaves as a phone, with two device pixels for one.
        """
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call(
            "Emulation.setDeviceMetricsOverride",
            sessionId=self._session,
            params={
                "width": width,
                "height": height,
                "deviceScaleFactor": 2 if is_phone else 1,
                "mobile": is_phone,
            },
        )
        self._call(
            "Emulation.setTouchEmulationEnabled",
            sessionId=self._session,
            params={"enabled": is_phone},
        )
        self._call(
            "Emulation.setEmulatedMedia", sessionId=self._session, params={"features": [scheme]}
        )

    def screenshot(self) -> bytes:
        """Return what the page shows now, as a PNG."""
        answer = self._call("Page.captureScreenshot", sessionId=self._session, params={})
        return base64.b64decode(answer["data"])

    def _prepare(self) -> None:
        # Newer versions look below XDG_DATA_HOME first, older ones only below HOME.
        self._trust(self._home / "pki" / "nssdb")
        shutil.copytree(self._home / "pki", self._home / ".pki")

    def _command(self) -> list[str]:
        rules = ", ".join(f"MAP {name} 127.0.0.1" for name in self._names)
        return [
            str(self._program()),
            "--headless",
            # Chromium's sandbox refuses root, and tests in containers run as root.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-breakpad",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
            f"--host-resolver-rules={rules}",
            f"--user-data-dir={self._home / 'profile'}",
            "--remote-debugging-port=0",
            "about:blank",
        ]

    def _address(self) -> str | None:
        try:
            lines = (self._home / "profile" / "DevToolsActivePort").read_text().split()
        except FileNotFoundError:
            return None
        return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else None

    def _attach(self) -> None:
        target = self._call("Target.createTarget", params={"url": "about:blank"})["targetId"]
        self._session = self._call(
            "Target.attachToTarget", params={"targetId": target, "flatten": True}
        )["sessionId"]
        self._call("Page.enable", sessionId=self._session)

    def _run(self, script: str, timeout: float) -> str | None:
        answer = self._call(
            "Runtime.evaluate",
            sessionId=self._session,
            timeout=timeout,
            params={"expression": script, "awaitPromise": True, "returnByValue": True},
        )
        if thrown := answer.get("exceptionDetails"):
            raise BrowserError(thrown.get("exception", {}).get("description", thrown["text"]))
        value = answer["result"].get("value")
        assert value is None or isinstance(value, str)
        return value


class Firefox(Browser):
    """Debian's Firefox ESR, by WebDriver BiDi."""

    programs = ("firefox-esr", "firefox")

    def open(self, url: str) -> None:
        """
        Load ``url`` in the page and wait until it is loaded.

        Raises:
            BrowserError: It could not be loaded.
        """
        self._call(
            "browsingContext.navigate",
            params={"context": self._page, "url": url, "wait": "complete"},
        )

    def _prepare(self) -> None:
        profile = self._home / "profile"
        self._trust(profile)
        preferences: dict[str, str | bool | int] = {
            # Firefox's own list of names that lead to loopback.
            "network.dns.localDomains": ",".join(self._names),
            "network.proxy.type": 0,
            # Nothing but the test speaks to the network.
            "app.normandy.enabled": False,
            "app.update.enabled": False,
            "browser.newtabpage.enabled": False,
            "browser.safebrowsing.downloads.enabled": False,
            "browser.safebrowsing.malware.enabled": False,
            "browser.safebrowsing.phishing.enabled": False,
            "browser.startup.page": 0,
            "datareporting.policy.dataSubmissionEnabled": False,
            "extensions.systemAddon.update.enabled": False,
            "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False,
            "security.OCSP.enabled": 0,
            "services.settings.server": "data:,",
            "toolkit.telemetry.enabled": False,
        }
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in preferences.items()]
        (profile / "user.js").write_text("".join(lines))

    def _command(self) -> list[str]:
        return [
            str(self._program()),
            "--headless",
            "--no-remote",
            "--profile",
            str(self._home / "profile"),
            "--remote-debugging-port=0",
            "about:blank",
        ]

    def _address(self) -> str | None:
        try:
            server = json.loads((self._home / "profile" / "WebDriverBiDiServer.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return f"ws://{server['ws_host']}:{server['ws_port']}/session"

    def _attach(self) -> None:
        self._call("session.new", params={"capabilities": {}})
        tree = self._call("browsingContext.getTree", params={})
        self._page: str = tree["contexts"][0]["context"]

    def _run(self, script: str, timeout: float) -> str | None:
        answer = self._call(
            "script.evaluate",
            timeout=timeout,
            params={
                "expression": script,
                "awaitPromise": True,
                "target": {"context": self._page},
            },
        )
        if answer["type"] == "exception":
            raise BrowserError(answer["exceptionDetails"]["text"])
        value = answer["result"].get("value")
        assert value is None or isinstance(value, str)
        return value
