"""Keeps the parts running: starts them, restarts what dies, and stops all of them in order.

One thread, one loop. A signal or a child's death writes to a pipe that the loop sleeps on.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from standalone.errors import StandaloneError
from standalone.parts import Part
from standalone.processes import POLL, Command, keep_short, last_lines, start, stop

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST_PAUSE = 5.0  # seconds between two starts of a part that keeps dying
LOG_CHECK = 60.0  # seconds between looks at the size of the logs
SHORT_LIFE = 5.0  # seconds; a part that dies sooner is started again with growing pauses


class StopAsked(Exception):
    """A stop signal came."""


@dataclass
class _Child:
    part: Part
    process: subprocess.Popen[bytes]
    started: float
    failures: int = 0  # starts in a row that never became ready
    short_lives: int = 0  # starts in a row that ended soon, ready or not
    is_ready: bool = False
    restart_at: float | None = None
    next_look: float = 0.0


class Supervisor:
    """Owns the children of this process, as a context manager: leaving it stops those still running."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: dict[str, _Child] = {}
        self._single: list[tuple[subprocess.Popen[bytes], Command]] = []
        self._stop_asked = False
        self._next_log_check = time.monotonic() + LOG_CHECK
        self._wake_read, self._wake_write = os.pipe()

    def __enter__(self) -> "Supervisor":
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # SIGHUP stays ignored where it was: that is what nohup asks for
        numbers = [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
        handlers: dict[signal.Signals, Callable[..., None]] = dict.fromkeys(numbers, self._on_stop_signal)
        handlers[signal.SIGCHLD] = lambda *_: None  # a handler of ours, so that the wake-up pipe hears of it
        self._earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop_all()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _on_stop_signal(self, *_: object) -> None:
        self._stop_asked = True

    # -- starting ---------------------------------------------------------------------------------------------------

    def start(self, parts: Iterable[Part]) -> None:
        """Start every part (kept in this order; stopped in the reverse one) without waiting for readiness."""
        for part in parts:
            self._check_stop()
            part.prepare(0)
            self._children[part.name] = _Child(part, start(part.command), time.monotonic())

    def wait_ready(self, names: Iterable[str]) -> None:
        """Wait until each named part serves.

        Raises:
            StandaloneError: a part died too often or is not ready in time, or a command begun before has failed.
        """
        waiting = [self._children[name] for name in names]
        while waiting:
            self._check_stop()
            self.look_after()
            for child in self._children.values():
                _check_start(child)
            for single, command in self._single:
                _check_end(single, command)
            waiting = [child for child in waiting if not child.is_ready]
            time.sleep(POLL if waiting else 0)

    def run_once(self, command: Command) -> None:
        """Run a command to its end while the parts are looked after.

        Raises:
            StandaloneError: it failed.
        """
        self.finish_once(self.begin_once(command), command)

    def begin_once(self, command: Command) -> subprocess.Popen[bytes]:
        """Start a command that will end by itself; :meth:`finish_once` waits for it."""
        process = start(command)
        self._single.append((process, command))
        return process

    def finish_once(self, process: subprocess.Popen[bytes], command: Command) -> None:
        """Wait for the end of what :meth:`begin_once` started."""
        while process.poll() is None:
            self._check_stop()
            self.look_after()
            time.sleep(POLL)
        self._single.remove((process, command))
        _check_end(process, command)

    # -- looking after ----------------------------------------------------------------------------------------------

    def watch(self, also: int | None = None) -> bool:
        """Sleep until something happened, then look after the parts.

        Args:
            also: another file descriptor whose input wakes us.

        Returns:
            whether ``also`` has input.

        Raises:
            StopAsked: a stop signal came.
        """
        waiting = [fd for fd in (self._wake_read, also) if fd is not None]
        starting = any(not child.is_ready or child.restart_at for child in self._children.values())
        readable, _, _ = select.select(waiting, [], [], 10 * POLL if starting else LOG_CHECK)
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        self._check_stop()
        self.look_after()
        return also in readable

    def look_after(self) -> None:
        """Notice readiness and deaths; start again what died; keep the logs short."""
        if time.monotonic() > self._next_log_check:
            self._next_log_check = time.monotonic() + LOG_CHECK
            for child in self._children.values():
                keep_short(child.part.command.log)
        for child in self._children.values():
            if child.restart_at is not None:
                if time.monotonic() >= child.restart_at:
                    self._restart(child)
            elif (code := child.process.poll()) is not None:
                self._note_death(child, code)
            elif not child.is_ready and time.monotonic() >= child.next_look:
                self._look_whether_ready(child)

    def _look_whether_ready(self, child: _Child) -> None:
        part = child.part
        if part.ready is None:
            child.is_ready = True
            self._say(f"{part.label}: started")
        elif part.ready(child.process.pid):
            child.is_ready, child.failures = True, 0
            self._say(f"{part.label}: ready after {time.monotonic() - child.started:.2f} s")
        child.next_look = time.monotonic() + part.look_every

    def _note_death(self, child: _Child, code: int) -> None:
        stop(child.process, signal.SIGTERM, 0)  # already dead: takes it off the watchdog's list
        if child.is_ready:
            self._say(f"{child.part.label}: {_how_it_ended(code)}; starting it again (log: {child.part.command.log})")
        else:
            child.failures += 1
        short = not child.is_ready or time.monotonic() - child.started < SHORT_LIFE
        child.short_lives = child.short_lives + 1 if short else 0
        child.is_ready = False
        child.restart_at = time.monotonic() + min(LONGEST_PAUSE, 0.1 * 2.0**child.short_lives)

    def _restart(self, child: _Child) -> None:
        try:
            child.part.prepare(child.failures)
            child.process = start(child.part.command)
        except (OSError, StandaloneError) as error:
            child.restart_at = time.monotonic() + LONGEST_PAUSE
            self._say(f"{child.part.label}: cannot start again ({error}); trying on")
            return
        child.started, child.restart_at = time.monotonic(), None

    def pid(self, name: str) -> int:
        return self._children[name].process.pid

    # -- stopping ---------------------------------------------------------------------------------------------------

    def stop_part(self, name: str) -> None:
        """Stop one part and look after it no more."""
        child = self._children.pop(name)
        code = stop(child.process, child.part.stop_signal, child.part.stop_patience, lambda: self._stop_asked)
        as_asked = code in (0, -child.part.stop_signal)
        self._say(f"{child.part.label}: {'stopped' if as_asked else _how_it_ended(code)}")

    def stop_all(self) -> None:
        """Stop one-shot commands, then the parts in the reverse order of their start. A second signal hurries."""
        self._stop_asked = False
        for process, _ in self._single:
            stop(process, signal.SIGTERM, 2.0)
        for name in reversed(list(self._children)):
            self.stop_part(name)

    def _check_stop(self) -> None:
        if self._stop_asked:
            raise StopAsked


def _check_start(child: _Child) -> None:
    part = child.part
    end_of_log = f"the end of {part.command.log}:\n"
    if child.short_lives >= part.attempts:
        raise StandaloneError(f"{part.label} does not start; {end_of_log}{last_lines(part.command.log)}")
    if not child.is_ready and time.monotonic() - child.started > part.start_patience:
        raise StandaloneError(f"{part.label} is not ready; {end_of_log}{last_lines(part.command.log)}")


def _check_end(process: subprocess.Popen[bytes], command: Command) -> None:
    if process.poll() not in (None, 0):
        raise StandaloneError(
            f"{command.name} {_how_it_ended(process.returncode)}; the end of {command.log}:\n{last_lines(command.log)}"
        )


def _how_it_ended(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
