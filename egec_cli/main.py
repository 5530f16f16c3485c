"""The entry of `egec`: runs a command and answers for how the program ends.

Only what every start needs is imported at the top: `egec --version` is answered before Typer is loaded.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType

from egec_cli import __version__, translation
from egec_cli.errors import (
    AT_A_PROMPT,
    ConfigError,
    EgecError,
    ExitCode,
    InvalidInput,
    StorageError,
    TemporaryFailure,
    UsageError,
)
from egec_cli.translation import Words, join_words, system_message

# What commands make is gone by itself: the collector need not look for circles as often as it would.
_OBJECTS_BEFORE_A_LOOK = 50_000

# What Python says where the system grants no further thread; it has no exception of its own for that.
_NO_THREAD = "can't start new thread"

WHERE_TO_REPORT = Words("the maintainers of egec")


class _Terminated(KeyboardInterrupt):
    """SIGTERM came: what is under way is settled on the way up.

    It is of the kind that libraries know: psycopg cancels the statement under way, so that it can be rolled back.
    """


def entry() -> None:
    """Run `egec` and end the process, without the interpreter's look through all that was imported."""
    _keep_to_oneself()
    code = run()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(code)


def _keep_to_oneself() -> None:
    """Let every file that this process creates be for its owner alone, and let no crash write its memory to a disk.

    It holds for the whole process, so it is done for the command alone, not for programs that import this package.
    """
    # Imported here: it is of no use to those programs.
    import resource

    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    # Linux ignores a limit of 0 where a program takes the dumps, but not a limit of 1, which is too little for a file
    # too (fs/coredump.c). The upper limit stays, for programs that this one becomes or starts.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1 if most != 0 else 0, most))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `egec` with these arguments, those of the process by default, and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"egec {__version__}")
        return ExitCode.OK
    # A program that was started with a signal ignored goes on ignoring it.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _terminate)
    _set_up_streams()
    machine = _wants_machine_format(arguments)
    # What programs read is the same in every locale, also beside their data.
    translation.use_language_of({} if machine else os.environ)
    try:
        _require_text(arguments)
        _begin_ahead(arguments)
        code = _run_command(arguments)
        sys.stdout.flush()
        return code
    except EgecError as error:
        return _fail(error, machine)
    except _Terminated as signal_:
        return _stopped(Words("terminated"), signal_, ExitCode.TERMINATED)
    except KeyboardInterrupt as signal_:
        return _stopped(Words("interrupted"), signal_, ExitCode.INTERRUPTED)
    except BrokenPipeError:
        _silence(sys.stdout)
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        return _fail(_file_system_failed(error), machine)
    except RuntimeError as error:
        return _fail(_no_thread() if str(error) == _NO_THREAD else _described(error), machine)
    except Exception as defect:  # noqa: BLE001 - the last stop for what nobody expected
        return _fail(_described(defect), machine)


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse an argument that is not UTF-8: it could be neither stored nor shown.

    What follows `--` after `verify --checkpassword` is another program's.
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
                "Type it in UTF-8; rename a file of such a name, or let the command read it from standard input.",
                number=number,
                argument=ascii(argument),
            ) from None


def _require_time_zone() -> None:
    """Refuse a time zone of a day or more, which no date can be told in."""
    import time

    if max(abs(time.timezone), abs(time.altzone)) >= 24 * 60 * 60:
        raise ConfigError(
            "TZ={zone} is not a time zone: it differs from UTC by a day or more",
            "Set TZ to a name such as Europe/Paris, or unset it.",
            zone=ascii(os.environ.get("TZ", ""))[1:-1],
        )


def _no_thread() -> EgecError:
    return TemporaryFailure(
        "the system does not allow this process another thread",
        "Raise the limit (ulimit -u, or TasksMax= of a systemd unit) or end other processes, then run the same again.",
    )


def _begin_ahead(arguments: Sequence[str]) -> None:
    """Begin the hash that `activate` takes most of its time for, while the command line's library is loaded."""
    words = [word for word in arguments if word not in {"--quiet", "--verbose"}]
    if words[:1] == ["activate"] and "--help" not in arguments:
        from egec_cli import hashing
        from egec_cli.settings import schema

        # What is wrong with the settings is told when the command itself reads them.
        with suppress(EgecError):
            hashing.start_hash_early(schema.load_settings())


def _run_command(arguments: list[str]) -> int:
    # Loading makes many objects and no garbage: the collector would look through them for nothing.
    gc.disable()
    if arguments[:1] == ["verify"]:
        # Here, as Typer takes an eighth of the time of a login to be loaded, which programs ask for all day.
        from egec_cli.commands import verify_fast

        if login := verify_fast.parse_program_call(arguments[1:]):
            return verify_fast.verify(*login)
    _require_time_zone()
    import typer
    from typer.main import get_command

    from egec_cli.commands import root

    command = get_command(root.app)
    root.translate_command(command)
    try:
        with command.make_context("egec", arguments or ["--help"]) as context:
            gc.freeze()
            gc.set_threshold(_OBJECTS_BEFORE_A_LOOK)
            gc.enable()
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        # Ctrl-C, or the end of the input, where something was asked.
        raise KeyboardInterrupt(AT_A_PROMPT) from None
    except typer.TyperException as error:
        from egec_cli.commands import typer_texts

        failed_in = getattr(error, "ctx", None)
        path = failed_in.command_path if failed_in else "egec"
        message = error.format_message()
        raise UsageError(typer_texts.parse_message(message), typer_texts.make_hint(message, path)) from None
    return ExitCode.OK


def _set_up_streams() -> None:
    """Make every byte of output the same everywhere: UTF-8, whatever the locale; a closed stream is no stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _wants_machine_format(arguments: Sequence[str]) -> bool:
    """Tell whether `--format` asks for anything but a table; read by hand, for errors before the command is parsed."""
    asked = "table"
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--format":
            asked = argument
        elif argument.startswith("--format="):
            asked = argument.removeprefix("--format=")
    return asked in {"json", "jsonl", "csv", "ids"}


def _fail(error: EgecError, machine: bool) -> int:
    from egec_cli.output.render import render_error

    # What was said before the error is kept, where it can be.
    try:
        sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)
    if isinstance(error, StorageError) and (folder := _lost_folder()):
        error.hint = Words(
            "The working folder {folder} no longer exists: change to one that exists, or write paths from / on.",
            folder=folder,
        )
    try:
        render_error(error, machine=machine)
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
    return error.exit_code


def _lost_folder() -> str | None:
    """Return the name of the working folder if it was deleted, so that no relative path leads anywhere."""
    try:
        os.getcwd()
    except FileNotFoundError:
        from egec_cli.settings.schema import name_of_working_folder

        return name_of_working_folder()
    return None


def _file_system_failed(error: OSError) -> EgecError:
    path, reason = error.filename, system_message(error)
    if isinstance(error, FileNotFoundError) and not str(path or "").startswith("/") and (folder := _lost_folder()):
        return StorageError(
            "the working folder {folder} no longer exists",
            "Change to a folder that exists, or write paths from / on.",
            folder=folder,
        )
    if isinstance(error, FileNotFoundError) and path:
        return StorageError("{path}: there is no such file or folder", "Correct the path, or make it.", path=path)
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
        return Words("Free some space, or raise the quota or the limit on file sizes, then run the same again.")
    if error.errno == errno.EIO:
        return Words("Check the disk, then run the same again.")
    return Words("Check the path and the file, then run the same again.")


def _described(defect: Exception) -> EgecError:
    """Return what may be told of a defect: its type and the lines it went through.

    Its message may quote a value, and any value may be a secret, so neither goes further.
    """
    return EgecError(
        "a defect of the program: {kind}{places}",
        "Please report these lines to {maintainers}, with the version: egec {version}.",
        kind=type(defect).__name__,
        # As words: line breaks of values are not shown.
        places=Words("".join(f"\n  {place}" for place in _places(defect.__traceback__))),
        maintainers=WHERE_TO_REPORT,
        version=__version__,
    )


def _places(trace: TracebackType | None) -> list[str]:
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


def _stopped(what: Words, interruption: KeyboardInterrupt, code: ExitCode) -> int:
    """Say that a signal ended the command, and what holds now: the argument of the interruption, if it has one."""
    holds = next(iter(interruption.args), Words("Nothing is lost; run the same again to go on."))
    with suppress(OSError):
        if holds == AT_A_PROMPT:
            # The prompt has not ended its line.
            print(file=sys.stderr)
        print(f"egec: {translation.translate(join_words('. ', [what, holds] if holds else [what]))}", file=sys.stderr)
    return code


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _silence(stream: object) -> None:
    """Send what is still to come of a stream nowhere, so that the interpreter does not stumble over it at its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())  # type: ignore[attr-defined]
