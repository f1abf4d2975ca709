"""Reading and writing of nested dataclasses with arrays, as files of :mod:`otf.io.array_file`.

The fields define the format: cattrs converts the dataclass to scalars and arrays and back, each
array under the dotted name of its field.
"""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_origin

import cattrs
import numpy as np
import numpy.typing as npt

from otf.errors import FileError
from otf.io.array_file import read_arrays, write_arrays

_SCALARS = (str, int, float, NoneType)
_ARRAY = "$array"  # key of the reference that replaces an array
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
    """Write the file atomically: if the process is killed, the old or the new one remains.

    Parameters
    ----------
    kind
        Kind of the file, such as ``"checkpoint"``; checked when it is read.
    value
        A dataclass of numbers, text, arrays, containers and dataclasses of these.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    arrays: _Arrays = {}
    write_arrays(path, kind, _take_out(_CONVERTER.unstructure(value), "", arrays), arrays)


def read_dataclass(path: Path, kind: str, type_: type[_T]) -> _T:
    """Read a dataclass written by :func:`write_dataclass`.

    Raises
    ------
    FileError
        If it is damaged, of another kind, or written by another version of otf.
    """
    scalars, arrays = read_arrays(path, kind)
    try:
        return _CONVERTER.structure(_put_back(scalars, arrays), type_)
    except Exception as error:  # cattrs raises many kinds, for a wrong literal Exception itself
        raise FileError(
            f"{path}: lacks what this version of otf needs ({error}); use the version that wrote it"
        ) from error


def _take_out(value: Any, name: str, arrays: _Arrays) -> Any:
    """The value with its arrays moved to ``arrays`` and replaced by references."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {
            # Most are scalars: thousands of records of labels, at every commit.
            key: item
            if isinstance(item, _SCALARS)
            else _take_out(item, f"{name}.{key}".lstrip("."), arrays)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_take_out(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
    return value


def _put_back(value: Any, arrays: _Arrays) -> Any:
    """The value with the references replaced by their arrays."""
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[value[_ARRAY]]
        return {key: _put_back(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, arrays) for item in value]
    return value
