"""`gapless settings`: lists the settings of the processes."""

import types
import typing
from typing import Any

import annotated_types
import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from runtime.settings import ENV_PREFIX, Settings


@click.command()
def settings() -> None:
    """List every setting: its variable, type, default and meaning.

    Every setting can also be read from a file: GAPLESS_X_FILE names the file that contains X.
    """
    for name, field in Settings.model_fields.items():
        click.echo(f"{ENV_PREFIX}{name.upper()}  ({_type(field)}; default: {_default(field)})")
        click.echo(f"    {field.description}")
    click.echo(f"\nEvery setting can also be read from a file, named by the variable with _FILE: {_example()}.")


def _example() -> str:
    return f"{ENV_PREFIX}POSTGRES_URL_FILE=/run/secrets/postgres_url"


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *typing.get_args(field.annotation))


def _type(field: FieldInfo) -> str:
    if _is_secret(field):
        return "secret"
    annotation: Any = field.annotation
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not types.NoneType)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(typing.get_args(annotation))
    name = {"str": "text", "int": "integer", "Path": "folder", "bool": "true or false", "float": "number"}.get(
        annotation.__name__, annotation.__name__
    )
    low = next((m.ge for m in field.metadata if isinstance(m, annotated_types.Ge)), None)
    high = next((m.le for m in field.metadata if isinstance(m, annotated_types.Le)), None)
    if low is not None or high is not None:
        name += f" {'' if low is None else low}–{'' if high is None else high}"
    pattern = next((m.pattern for m in field.metadata if getattr(m, "pattern", None)), None)
    return f"{name} {pattern}" if pattern else name


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none, must be set"
    if field.default is None:
        return "none"
    return "hidden" if _is_secret(field) else str(field.default)
