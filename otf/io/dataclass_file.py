"""Nested dataclasses with arrays to and from a file of :mod:`otf.io.array_file`.

The fields are the format: cattrs takes the dataclass apart into scalars and arrays and builds it
again, each array under the dotted name of its field.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin

import cattrs
import numpy as np
import numpy.typing as npt

from otf.errors import FileError
from otf.io.array_file import read_arrays, write_arrays

_ARRAY = "$array"  # key of a reference to an array, in the place of the array
_T = TypeVar("_T")
_Arrays = dict[str, npt.NDArray[Any]]


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_unstructure_hook(np.ndarray, lambda array: array)
    converter.register_structure_hook_func(_is_array, lambda array, _: np.asarray(array))
    return converter


def _is_array(kind: Any) -> bool:
    return get_origin(kind) is np.ndarray


_CONVERTER = _make_converter()


def write_dataclass(path: Path, kind: str, value: object) -> None:
    """Replace the file; a kill leaves the old one or the new one.

    Parameters
    ----------
    kind
        What it is, such as ``"checkpoint"``: read back only as the same.
    value
        A dataclass of numbers, text, arrays, containers and dataclasses of these.

    Raises
    ------
    FileError
        If the disk does not take it.
    """
    arrays: _Arrays = {}
    write_arrays(path, kind, _take_out(_CONVERTER.unstructure(value), "", arrays), arrays)


def read_dataclass(path: Path, kind: str, type_: type[_T]) -> _T:
    """What :func:`write_dataclass` wrote.

    Raises
    ------
    FileError
        If it is damaged, something else, or written by another version of otf.
    """
    scalars, arrays = read_arrays(path, kind)
    try:
        return _CONVERTER.structure(_put_back(scalars, arrays), type_)
    except (KeyError, TypeError, ValueError, cattrs.ForbiddenExtraKeysError) as error:
        raise FileError(
            f"{path}: lacks what this version of otf needs ({error}); use the version that wrote it"
        ) from error


def _take_out(value: Any, name: str, arrays: _Arrays) -> Any:
    """The value with references in the place of its arrays, which are put into ``arrays``."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {
            key: _take_out(item, f"{name}.{key}".lstrip("."), arrays) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_take_out(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
    return value


def _put_back(value: Any, arrays: _Arrays) -> Any:
    """The value with arrays in the place of the references to them."""
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[value[_ARRAY]]
        return {key: _put_back(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, arrays) for item in value]
    return value
