"""What all binaries share: flags from a dataclass, and errors in one line."""

import dataclasses
import errno
import os
import pathlib
import sys
import tempfile
import types
import typing

from absl import app, flags, logging

from inres_tf.errors import UserError


def define_flags(config_class, leave_out=(), **overrides) -> None:
    """Defines an absl flag for every field of a dataclass of settings.

    Args:
        config_class: dataclass made of `inres_tf.config.setting` fields.
        leave_out: fields that get no flag.
        **overrides: other defaults for some of the flags.
    """
    for field in dataclasses.fields(config_class):
        if field.name in leave_out:
            continue
        default = overrides.get(field.name, field.default)
        text, choices = field.metadata["help"], field.metadata.get("choices")
        kind = _kind(field)
        if choices and kind is str:
            flags.DEFINE_enum(field.name, default, choices, text)
        elif kind is tuple:
            flags.DEFINE_list(field.name, ",".join(f"{v}" for v in default), text)
        else:
            define = {
                bool: flags.DEFINE_bool,
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                str: flags.DEFINE_string,
            }[kind]
            define(field.name, default, text)


def read_flags(config_class, **values):
    """Makes the dataclass of `define_flags` from the flags' values.

    Args:
        config_class: as in `define_flags`.
        **values: fields that are not flags of that name.

    Raises:
        UserError: if a list holds what is no number, or the dataclass refuses a value.
    """
    for field in dataclasses.fields(config_class):
        if field.name in values:
            continue
        value = flags.FLAGS[field.name].value
        if _kind(field) is tuple:
            value = _items(field, value)
        values[field.name] = value
    return config_class(**values)


def define_model_flags() -> None:
    """Defines the flags that name a trained model."""
    flags.DEFINE_string(
        "checkpoint",
        None,
        "A run's --output_dir, one of its checkpoints, or a .keras file.",
    )
    flags.DEFINE_string("model", None, "Instead of --checkpoint: a model of the zoo.")
    flags.DEFINE_string(
        "weights", None, "Weights of --model: shipped ones by name, or a file."
    )


def check_writable(path) -> None:
    """Raises OSError if a file cannot be written, before the work for it is done."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(f"--output={path} is a folder; it must name a file")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _kind(field):
    """The plain type of a field: `str` for `str | None`, `tuple` for a tuple."""
    kind = typing.get_origin(field.type) or field.type
    if kind in (types.UnionType, typing.Union):
        kind = next(t for t in typing.get_args(field.type) if t is not type(None))
    return kind


def _items(field, values):
    """A list flag's items in the type of the field; `none` or nothing: empty."""
    values = [v.strip() for v in values if v.strip()]
    if values == ["none"]:
        return ()
    item = typing.get_args(field.type)[0]
    try:
        return tuple(item(v) for v in values)
    except ValueError as error:
        raise UserError(f"--{field.name}: {error}") from error


def _parse(argv):
    try:
        return flags.FLAGS(argv, known_only=False)
    except flags.Error as error:
        message = " ".join(str(error).split())
        print(f"{_program(argv)}: {message}; --help lists the flags", file=sys.stderr)
        sys.exit(2)


def _program(argv):
    name = argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    return f"train.{name}"


def import_tensorflow() -> None:
    """Imports TensorFlow, and Keras with it, without their start-up notices.

    The notices are written before any setting of the log level counts, and would stand
    before a program's own output. They are shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _tensorflow_message(error: Exception) -> str | None:
    """The message of TensorFlow's own refusal of the disk; None for other errors."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return None
    return (error.message or str(error)).splitlines()[0]


def run(main, positional=False, tensorflow=True) -> None:
    """Runs a program: `main()` after the flags are read, its errors in one line.

    A user's mistake and a refusal of the disk exit with code 1 (or that of the
    `UserError`), wrong flags with 2, an interruption with 130; anything else is a
    defect and shows its traceback.

    Args:
        main: function of no arguments or, with `positional`, of the list of those that
            are no flags. It may return an exit code.
        positional: whether such arguments are taken. The docstring of the program, which
            --help shows, says what they are.
        tensorflow: whether the program needs TensorFlow, which is imported once the
            flags are read.
    """
    program = _program(sys.argv)

    def guarded(argv):
        if len(argv) > 1 and not positional:
            print(
                f"{program}: unexpected argument {argv[1]!r}; flags are --NAME=VALUE, "
                "and --help lists them",
                file=sys.stderr,
            )
            sys.exit(2)
        logging.set_verbosity(logging.WARNING)
        # λ and ε must not end a run whose terminal does not know them.
        sys.stdout.reconfigure(errors="replace")
        sys.stderr.reconfigure(errors="replace")
        code = 1
        try:
            if tensorflow:
                import_tensorflow()
            sys.exit((main(argv[1:]) if positional else main()) or 0)
        except UserError as error:
            message, code = str(error), error.code
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

    # So that --help shows them: absl credits flags to the module that defines them.
    for flag in flags.FLAGS.flags_by_module_dict().get(__name__, ()):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(guarded, flags_parser=_parse)
