"""What all binaries share: flags from a dataclass, and errors in one line."""

import dataclasses
import sys
import types
import typing

from absl import app, flags, logging

from inres_tf.errors import UserError


def define_flags(config_class, **overrides) -> None:
    """Defines an absl flag for every field of a dataclass that has a help text.

    Args:
        config_class: dataclass whose fields carry `help` and `choices` metadata.
        **overrides: other defaults for some of the flags.
    """
    for field in dataclasses.fields(config_class):
        if "help" not in field.metadata:
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
        if "help" not in field.metadata or field.name in values:
            continue
        value = flags.FLAGS[field.name].value
        if _kind(field) is tuple:
            value = _items(field, value)
        values[field.name] = value
    return config_class(**values)


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


def run(main) -> None:
    """Runs a binary: `main()` after the flags are read, its errors in one line.

    A user's mistake and a refusal of the disk exit with code 1, wrong flags with 2, an
    interruption with 130; anything else is a defect and shows its traceback.
    """
    program = _program(sys.argv)

    def guarded(argv):
        if len(argv) > 1:
            print(
                f"{program}: unexpected argument {argv[1]!r}; flags are --NAME=VALUE, "
                "and --help lists them",
                file=sys.stderr,
            )
            sys.exit(2)
        logging.set_verbosity(logging.WARNING)
        try:
            sys.exit(main() or 0)
        except UserError as error:
            message = str(error)
        except OSError as error:
            if error.errno is None:
                raise
            where = f": {error.filename}" if error.filename else ""
            message = f"{error.strerror}{where}"
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            sys.exit(130)
        print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(1)

    app.run(guarded, flags_parser=_parse)
