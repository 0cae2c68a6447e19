"""Shared code of the binaries: flags from dataclasses, and one-line errors."""

import dataclasses
import errno
import functools
import io
import os
import pathlib
import re
import shlex
import signal
import sys
import tempfile
import types
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from absl import app, flags, logging

from inres_tf import environment, files, pixels
from inres_tf.config import Config
from inres_tf.errors import UserError
from train import _help

_LONGEST_RANGE = 1000
_ConfigT = TypeVar("_ConfigT", bound=Config)

# Name, short name, and whether the flags of absl are shown.
_HELP_FLAGS = (
    ("help", "?", False),
    ("h", None, False),
    ("helpshort", None, False),
    ("helpfull", None, True),
)


def define_flags(
    config_class: type[Config], leave_out: Collection[str] = (), **overrides: Any
) -> None:
    """Defines an absl flag for every field of a dataclass of settings.

    Args:
        config_class: dataclass whose fields are made by `inres_tf.config.config_field`.
        leave_out: names of fields without a flag.
        **overrides: defaults that differ from those of the fields.
    """
    for field in dataclasses.fields(config_class):
        if field.name in leave_out:
            continue
        default = overrides.get(field.name, field.default)
        text, choices = field.metadata["help"], field.metadata.get("choices")
        if bounds := field.metadata.get("bounds"):
            text += f" {str(bounds).capitalize()}."
        kind = _kind(field)
        if choices and kind is str:
            flags.DEFINE_enum(field.name, default, choices, text, case_sensitive=False)
        elif kind is tuple:
            flags.DEFINE_list(field.name, ",".join(f"{v}" for v in default), text)
        elif kind is float and field.metadata.get("pixels") is not None:
            flags.DEFINE(_PixelsParser(), field.name, default, text)
        else:
            define: dict[type, Callable[..., Any]] = {
                bool: flags.DEFINE_bool,
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                str: flags.DEFINE_string,
            }
            define[kind](field.name, default, text)


class _PixelsParser(flags.FloatParser):
    """Parser of distances between pixels, which `/255` may follow."""

    def convert(self, argument: Any) -> float:
        return pixels.parse(str(argument))


class _PathParser(flags.ArgumentParser):
    """Parser of flags that are paths."""

    def parse(self, argument: str) -> str:
        return files.expand(argument)


def DEFINE_path(name: str, default: str | None, help: str) -> None:
    """Defines an absl flag that is a path, in which `~` means the home.

    Args:
        name: name of the flag.
        default: its default.
        help: its help text.
    """
    flags.DEFINE(_PathParser(), name, default, help)


def read_flags(config_class: type[_ConfigT], **values: Any) -> _ConfigT:
    """Creates a dataclass of settings from the values of its flags.

    Args:
        config_class: dataclass whose flags were defined by `define_flags`.
        **values: values of fields without a flag.

    Raises:
        UserError: if an item of a list has the wrong type, or the dataclass rejects a
            value.
    """
    for field in dataclasses.fields(config_class):
        if field.name in values:
            continue
        value = flags.FLAGS[field.name].value
        if _kind(field) is tuple:
            value = _items(field, value)
        values[field.name] = value
    return config_class(**values)


def command(
    binary: str,
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    leave_out: Collection[str] = (),
) -> str:
    """Returns the command line that sets flags to some values.

    Args:
        binary: name of the binary, such as `train`.
        values: values of flags by name; None and empty lists are left out, and the
            path of `folder:PATH`.
        defaults: values that need no flag, by name.
        leave_out: names of flags to leave out.
    """
    parts = ["python", "-m", f"train.{binary}"]
    for name, value in values.items():
        if name in leave_out or value in (None, []) or value == defaults.get(name):
            continue
        if isinstance(value, bool):
            parts.append(f"--{name}" if value else f"--no{name}")
            continue
        if str(value).startswith("folder:"):
            value = "folder:PATH"
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value)) or "none"
        parts.append(f"--{name}={value}")
    return shlex.join(parts)


def defaults_of(*config_classes: type[Config]) -> dict[str, Any]:
    """Returns the defaults of the fields of dataclasses of settings, by name."""
    return {
        field.name: field.default
        for config_class in config_classes
        for field in dataclasses.fields(config_class)
    }


def define_model_flags(as_it_is: bool = False) -> None:
    """Defines the flags that select a trained model.

    Args:
        as_it_is: whether to leave out the flags that change it or run code of others.
    """
    DEFINE_path(
        "checkpoint",
        None,
        "A run's --output_dir, one of its checkpoints, or a .keras file.",
    )
    flags.DEFINE_string("model", None, "A model of the zoo, instead of --checkpoint.")
    DEFINE_path(
        "weights", None, "Weights of --model: a name of shipped weights, or a file."
    )
    if as_it_is:
        return
    flags.DEFINE_enum(
        "preprocessing",
        None,
        ("none", "unit", "symmetric", "imagenet", "caffe"),
        "Input scaling of the model, since most of keras.applications do not scale "
        "pixels themselves. none: [0, 255], as usual; unit: [0, 1]; symmetric: "
        "[-1, 1]; imagenet: normalised by the mean and standard deviation of ImageNet; "
        "caffe: BGR minus the mean of ImageNet. Without it, evaluations and analyses "
        "refuse a model that does much better with one of them.",
        case_sensitive=False,
    )
    flags.DEFINE_list(
        "import",
        [],
        "Modules to import with custom layers or functions of the model; their code is "
        "run.",
    )
    flags.DEFINE_string(
        "solver",
        None,
        "Method that solves the neural ODEs instead of the model's own: dopri5, "
        "dopri5:1e-5 (rtol and atol) or rk4:16 (steps).",
    )


def check_writable(path: str | os.PathLike[str], kind: bytes = b"") -> None:
    """Checks before a computation that its result can be written.

    Args:
        path: the file to write, which need not exist.
        kind: what a file that is replaced must begin with, such as `b"{"` for JSON:
            the output may be an input by mistake.

    Raises:
        UserError: if the path is a folder or another kind of file, or the file cannot
            be created.
        PermissionError: if it is a stream that cannot be written to.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(f"--output={path} must be a file, but is a folder")
    if not files.is_stream(path):
        files.check_creatable(path)
        if kind and path.is_file() and path.stat().st_size:
            with open(path, "rb") as file:
                if file.read(len(kind)) != kind:
                    raise UserError(
                        f"--output={path} exists and is not a result of this program: "
                        "choose another file, or delete it"
                    )
    elif not os.access(path, os.W_OK):  # it is written to, and not replaced
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _kind(field):
    """Returns the plain type of a field: `str` for `str | None`, `tuple` for tuples."""
    kind = typing.get_origin(field.type) or field.type
    if kind in (types.UnionType, typing.Union):
        kind = next(t for t in typing.get_args(field.type) if t is not type(None))
    return kind


def _items(field, values):
    """Converts the items of a list flag to the field's type; `none` means no items."""
    values = [v.strip() for v in values if v.strip()]
    if values == ["none"]:
        return ()
    convert = typing.get_args(field.type)[0]
    if field.metadata.get("pixels") is not None:
        convert = pixels.parse
    elif convert is int:
        values = [number for text in values for number in _range(field, text)]
    try:
        return tuple(convert(v) for v in values)
    except ValueError as error:
        kind, example = (
            ("whole numbers", "0,2") if convert is int else ("numbers", "2,8")
        )
        raise UserError(
            f"--{field.name} must be {kind} separated by commas, such as {example}: "
            f"{error}"
        ) from error


def _range(field, text):
    """The numbers of a range such as `0-2`, or else the text alone."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if not match:
        return [text]
    first, last = map(int, match.groups())
    if not first <= last < first + _LONGEST_RANGE:
        raise UserError(
            f"--{field.name}: a range must go up, by at most {_LONGEST_RANGE} numbers, "
            f"such as 0-2; got {text}"
        )
    return range(first, last + 1)


def _parse(argv):
    try:
        return flags.FLAGS(argv, known_only=False)
    except flags.UnrecognizedFlagError as error:
        message = f"unknown flag --{error.flagname}"
        if close := _help.near(error.flagname, _help.own_flags()):
            message += f" (did you mean {' or '.join(f'--{n}' for n in close)}?)"
    except flags.Error as error:
        message = " ".join(str(error).split())
    print(f"{_program(argv)}: {message}; see --help", file=sys.stderr)
    sys.exit(2)


def _program(argv):
    path = pathlib.Path(argv[0])
    package = "zoo" if path.parent.name == "zoo" else "train"
    return f"{package}.{path.stem}"


def import_tensorflow() -> None:
    """Imports TensorFlow, with oneDNN, and Keras without their start-up messages.

    TensorFlow writes them to stderr before the log level takes effect. They are shown
    only if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Off by default on processors without AVX512-VNNI, where it is 2.8 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with tempfile.TemporaryFile() as messages:
        stderr = os.dup(2)
        os.dup2(messages.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        except Exception:
            messages.seek(0)
            os.write(stderr, messages.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _show_own_warnings(program: str) -> None:
    """Shows own warnings once, in one line, without the place in the code."""
    own = (pixels.PixelWarning, environment.EmulationWarning)
    show_others, shown = warnings.showwarning, set()

    def show(message, category, *rest, **kwargs):
        if not issubclass(category, own):
            show_others(message, category, *rest, **kwargs)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"{program}: warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def _tensorflow_message(error: Exception) -> str | None:
    """Returns the message of an error of TensorFlow (a full disk), else None."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return None
    return (error.message or str(error)).splitlines()[0]


def run(
    main: Callable[..., Any],
    positional: bool = False,
    tensorflow: bool = True,
    groups: _help.Groups = types.MappingProxyType({}),
) -> None:
    """Parses the flags, runs `main` and reports its errors in one line.

    `UserError` exits with its own code (1 by default), errors of the file system or of
    TensorFlow with 1, invalid flags with 2 and Ctrl-C with 130. Any other exception is
    a defect and shows its traceback.

    Args:
        main: function without arguments or, with `positional`, of the list of
            positional arguments. It may return an exit code.
        positional: whether the program takes positional arguments.
        tensorflow: whether to import TensorFlow once the flags are parsed.
        groups: headings of the flags in the help, whose text is the docstring of the
            module of `main`.
    """
    program = _program(sys.argv)

    def guarded(argv):
        if len(argv) > 1 and not positional:
            print(
                f"{program}: unexpected argument {argv[1]!r}; flags have the form "
                "--NAME=VALUE, see --help",
                file=sys.stderr,
            )
            sys.exit(2)
        logging.set_verbosity(logging.WARNING)
        _show_own_warnings(program)
        code = 1
        try:
            if tensorflow:
                import_tensorflow()
            sys.exit((main(argv[1:]) if positional else main()) or 0)
        except UserError as error:
            message, code = str(error), error.code
        except BrokenPipeError:  # as in `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            message = f"{error.strerror or error}{where}"
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            message = _tensorflow_message(error)
            if message is None:
                raise
        print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(code)

    # A terminal whose encoding lacks λ or ε must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    document = main.__globals__["__doc__"]
    app.define_help_flags()
    for name, short_name, everything in _HELP_FLAGS:
        text = functools.partial(_help.text, program, document, groups, everything)
        flags.DEFINE_flag(_help.HelpFlag(name, "show this help", text, short_name))
    app.run(guarded, flags_parser=_parse)
