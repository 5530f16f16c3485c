"""The entry point of `egec`: run a command and end the process with its exit code.

The top imports only what every start needs: `egec --version` does not load Typer.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from egec_cli import __version__, translation
from egec_cli.errors import (
    AT_A_PROMPT,
    EgecError,
    ExitCode,
    InvalidInput,
    Stopped,
    StorageError,
    TemporaryFailure,
    UsageError,
    code_of_signal,
)
from egec_cli.translation import Words, join_words, system_message

# Commands create few reference cycles, so the collector can run less often than by default.
_OBJECTS_PER_COLLECTION = 50_000

# How help is asked for, and its longest lines on a wide terminal; all commands inherit this.
_HELP_NAMES = ["-h", "--help"]
_LONGEST_HELP_LINE = 120

# Python's message if the system allows no further thread; it has no exception class for that.
_NO_THREAD = "can't start new thread"

# The signals besides Ctrl-C that end a command.
_STOPS: dict[int, ExitCode] = {signal.SIGHUP: ExitCode.HUNG_UP, signal.SIGTERM: ExitCode.TERMINATED}
# What is reported when a signal ends the command.
_ENDS = {
    ExitCode.HUNG_UP: Words("the terminal was closed"),
    ExitCode.INTERRUPTED: Words("interrupted"),
    ExitCode.TERMINATED: Words("terminated"),
}

# Of an internal error, the last ones: a recursion has a thousand.
_LINES_OF_A_TRACEBACK = 20

WHERE_TO_REPORT = Words("the maintainers of egec")


def entry() -> None:
    """Run `egec` and end the process without the interpreter's slow shutdown."""
    try:
        _protect_files_and_memory()
        code = run()
    except KeyboardInterrupt as signal_:
        # One before the command began, or a second one while it ended.
        code = code_of_signal(signal_)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(code)


def _protect_files_and_memory() -> None:
    """Make new files private to their owner, and stop a crash from writing memory to disk.

    This applies to the whole process, so only the command does it, not programs that import this package.
    """
    # Imported here: those programs do not need it.
    import resource

    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    # If a program receives the dumps, Linux ignores a limit of 0, but not of 1, which is too small for a file as well
    # (fs/coredump.c). The hard limit stays, for programs that this one starts.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1 if most != 0 else 0, most))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `egec` with these arguments (default: those of the process) and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for number in _STOPS:
        # If the caller ignores it (nohup), keep ignoring it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    _set_up_streams()
    machine = _wants_machine_format(arguments)
    # Programs read the same texts in every locale.
    translation.set_language({} if machine else os.environ)
    try:
        _require_text(arguments)
        code = _run_command(arguments)
        sys.stdout.flush()
        return code
    except EgecError as error:
        return _fail(error, machine)
    except KeyboardInterrupt as signal_:
        return _stopped(signal_)
    except BrokenPipeError:
        _silence(sys.stdout)
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        return _fail(_file_system_failed(error), machine)
    except RuntimeError as error:
        return _fail(_no_thread() if str(error) == _NO_THREAD else _internal_error(error), machine)
    except Exception as error:  # noqa: BLE001 - the last resort
        return _fail(_internal_error(error), machine)


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse an argument that is not UTF-8, which cannot be stored or shown.

    Arguments after `--` of `verify --checkpassword` belong to another program.
    """
    own = arguments
    if "--checkpassword" in arguments and "--" in arguments:
        own = arguments[: arguments.index("--")]
    for number, argument in enumerate(own, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InvalidInput(
                "argument {number} is not UTF-8 text: {argument}",
                "Type it in UTF-8. Rename a file with such a name, or pass it on standard input.",
                number=number,
                argument=ascii(argument),
            ) from None


def _no_thread() -> EgecError:
    return TemporaryFailure(
        "the system does not allow this process another thread",
        "Raise the limit (ulimit -u, or TasksMax= of a systemd unit) or end other processes, then try again.",
    )


def _start_hash(arguments: Sequence[str]) -> object | None:
    """Start the hash of `activate` while Typer loads: 0.12 s of the 0.45 s of processor time that the command takes."""
    words = [word for word in arguments if word not in {"--quiet", "--verbose"}]
    # A request from a portal is counted before any work.
    if words[:1] == ["activate"] and not {*_HELP_NAMES, "--stdin"} & set(arguments):
        from egec_cli import hashing
        from egec_cli.settings import load

        # The command reads the settings again and reports what is wrong.
        with suppress(EgecError):
            return hashing.start_hash(load.load_settings())
    return None


def _run_command(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"egec {__version__}")
        return ExitCode.OK
    # Loading creates many objects and no garbage, so collections would be in vain.
    gc.disable()
    if arguments[:1] == ["verify"]:
        # Loading Typer would take an eighth of the time of a login, and programs run this command all day.
        from egec_cli.commands import verify_fast

        if login := verify_fast.parse_program_call(arguments[1:]):
            return verify_fast.verify(*login)
    hashing = _start_hash(arguments)
    import typer
    from typer.main import get_command

    from egec_cli.commands import root

    command = get_command(root.app)
    root.translate_command(command)
    try:
        with command.make_context(
            "egec",
            arguments or ["--help"],
            obj=hashing,
            help_option_names=_HELP_NAMES,
            max_content_width=_LONGEST_HELP_LINE,
        ) as context:
            gc.freeze()
            gc.set_threshold(_OBJECTS_PER_COLLECTION)
            gc.enable()
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        # Ctrl-C, or the end of the input, at a prompt.
        raise KeyboardInterrupt(AT_A_PROMPT) from None
    except typer.TyperException as error:
        from egec_cli.commands import typer_texts

        failed_in = getattr(error, "ctx", None)
        path = failed_in.command_path if failed_in else "egec"
        message = error.format_message()
        raise UsageError(typer_texts.parse_message(message), typer_texts.make_hint(message, path)) from None
    return ExitCode.OK


def _set_up_streams() -> None:
    """Write UTF-8 in every locale. If stdout is closed, writing fails as on a full disk; a closed stderr is ignored."""
    # What was opened for reading cannot be written.
    for name, access in (("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.open(os.devnull, access), "w", encoding="utf-8"))  # noqa: SIM115 - until the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _wants_machine_format(arguments: Sequence[str]) -> bool:
    """Return whether `--format` names a format for programs, also for errors before the command is parsed.

    A count is for people: they read it, or get the errors of the script that reads it by mail, as from cron.
    """
    output = "table"
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--format":
            output = argument
        elif argument.startswith("--format="):
            output = argument.removeprefix("--format=")
    return output in {"json", "jsonl", "csv", "ids"}


def _fail(error: EgecError, machine: bool) -> int:
    from egec_cli.guides import pages
    from egec_cli.output.messages import render_error

    # Keep earlier output, if possible.
    try:
        sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)
    if isinstance(error, StorageError) and (folder := _lost_folder()):
        error.hint = Words(
            "The working folder {folder} no longer exists: change to an existing one, or use absolute paths.",
            folder=folder,
        )
    try:
        render_error(error, machine=machine, topic=pages.ERRORS.get(error.code, ""))
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
    return error.exit_code


def _lost_folder() -> str | None:
    """Return the name of the working folder if it was deleted; relative paths cannot work then."""
    try:
        os.getcwd()
    except FileNotFoundError:
        from egec_cli.settings.parsing import name_of_working_folder

        return name_of_working_folder()
    return None


def _file_system_failed(error: OSError) -> EgecError:
    path, reason = error.filename, system_message(error)
    if isinstance(error, FileNotFoundError) and path:
        return StorageError("{path}: no such file or folder", "Correct the path, or create it.", path=path)
    if isinstance(error, IsADirectoryError) and path:
        return StorageError("{path} is a directory", "Name a file, not a directory.", path=path)
    if isinstance(error, NotADirectoryError) and path:
        return StorageError("{path}: a part of this path is a file, not a directory", "Correct the path.", path=path)
    what = Words("{path}: {reason}" if path else "the output could not be written: {reason}", path=path, reason=reason)
    return StorageError(what, _hint_on_system_error(error))


def _hint_on_system_error(error: OSError) -> Words:
    if isinstance(error, PermissionError):
        return Words("Check the owner and the permissions of the file and its folders, or run egec as their owner.")
    if error.errno == errno.EROFS:
        return Words("The file system is mounted read-only: choose another place.")
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return Words("Free some space, or raise the quota or the limit on file sizes, then try again.")
    if error.errno == errno.EBADF:
        return Words("Standard output is closed: send it to a terminal, a file or /dev/null.")
    if error.errno == errno.EIO:
        return Words("Check the disk, then try again.")
    return Words("Check the path and the file, then try again.")


def _internal_error(error: Exception) -> EgecError:
    """Describe an unexpected exception by its type and the last lines of its traceback.

    Its message may quote a value, and any value may be a secret, so it is left out.
    """
    # Imported here: only an internal error needs it.
    import traceback

    places = [
        f"\n  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return EgecError(
        "internal error: {kind}{places}",
        "Please report these lines to {maintainers}, with the version: egec {version}.",
        kind=type(error).__name__,
        # As Words, since line breaks of plain values are not shown.
        places=Words("".join(places[-_LINES_OF_A_TRACEBACK:])),
        maintainers=WHERE_TO_REPORT,
        version=__version__,
    )


def _stopped(interruption: KeyboardInterrupt) -> int:
    """Report that a signal ended the command, and the present state: the argument of the interruption, if any."""
    from egec_cli.output.messages import report_end

    code = code_of_signal(interruption)
    state = next(iter(interruption.args), Words("Nothing was lost; run the same command again to continue."))
    with suppress(OSError):
        if state == AT_A_PROMPT:
            # The prompt has not ended its line.
            print(file=sys.stderr)
        report_end(Words("egec: {what}", what=join_words(". ", [_ENDS[code], state] if state else [_ENDS[code]])))
    return code


def _stop(number: int, _frame: FrameType | None) -> None:
    # Both a closed terminal and its shell send SIGHUP; systemd sends it after SIGTERM.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise Stopped(_STOPS[number])


def _silence(stream: object) -> None:
    """Discard the rest of a stream, so that flushing it at the end does not fail."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())  # type: ignore[attr-defined]
