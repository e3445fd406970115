"""A machine that reads pickles as data and runs none of the code that they ask for.

A pickle is a program for a stack machine. Python's own machine looks up any function that the program names,
and calls it. This one knows the same instructions, but where a function would be looked up it notes its name,
and where it would be called it makes a `Call`: a record of the name and the arguments.
`partfit.pickled_objects` then makes arrays of the records that it knows. Names that are not on its list end
the reading.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection
from pickle import UnpicklingError
from typing import Any

from attrs import define, frozen

#: A file of more instructions and values than this holds no model: the largest have some thousands.
MAX_STEPS = 250_000

#: No model file is larger than this, nor is all that is made of it: 1 GiB.
MAX_BYTES = 2**30

#: A whole number has at most so many bytes; PyTorch's magic number has 10.
_MAX_INTEGER = 16

#: Old and new names of modules; the lists of names use the new ones.
_MODULES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
    "scipy.sparse.csc": "scipy.sparse._csc",
    "scipy.sparse.csr": "scipy.sparse._csr",
}

_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}


class Budget:
    """What the parts of one file together may ask for: steps of work, and bytes for what is made of it."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.bytes = MAX_BYTES

    def spend(self, n_bytes: int = 0, steps: int = 1) -> None:
        """Draw on what is left; called before memory is taken.

        Raises:
            UnpicklingError: if it is not enough.
        """
        self.bytes -= n_bytes
        self.steps -= steps
        if self.bytes < 0:
            raise UnpicklingError(f"its content would need more than {MAX_BYTES} bytes")
        if self.steps < 0:
            raise UnpicklingError(f"it has more than {MAX_STEPS} instructions and values")


@frozen
class Name:
    """The name of a function or a class, as "module.name"; nothing is looked up."""

    text: str


@define(eq=False)
class Call:
    """What a pickle would make by calling something.

    Attributes:
        function: The name of the function or class.
        arguments: What it would be called with.
        state: What the new object's state would be set to; None if it is not set.
    """

    function: str
    arguments: tuple[Any, ...]
    state: Any = None


def read_pickle(content: bytes, allowed: Collection[str], budget: Budget, start: int = 0) -> tuple[Any, int]:
    """Read one pickle of any protocol; byte strings of Python 2 become text (latin1).

    Args:
        content: The bytes.
        allowed: The names that it may speak of, as "module.name", with the modules' newest names.
        budget: What is left for the file; each instruction is a step.
        start: Where the pickle begins.

    Returns:
        What the pickle holds, with a `Call` for every object, a `Name` for every class or function, and lists
        in place of sets; and the place behind the pickle.

    Raises:
        UnpicklingError: if the pickle speaks of another name, is cut off or has too many instructions.
        Exception: of some other kind, if it is damaged.
    """
    machine = _Machine(content, allowed, budget, start)
    return machine.run(), machine.position


class _Machine:
    """The state of one reading: the bytes, the stack, the stacks below its marks, the memo."""

    def __init__(self, content: bytes, allowed: Collection[str], budget: Budget, start: int) -> None:
        self.content = content
        self.position = start
        self._allowed = allowed
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self._take(1)) != b".":
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise UnpicklingError(
                    f"the instruction {code!r} at byte {self.position - 1} has no place in a model file"
                )
            self._budget.spend()
            instruction(self)
        return self._stack.pop()

    # reading

    def _take(self, size: int) -> bytes:
        self._expect(size)
        self.position, start = self.position + size, self.position
        return self.content[start : self.position]

    def _expect(self, size: int) -> None:
        if size < 0 or self.position + size > len(self.content):
            raise UnpicklingError(
                f"it is cut off or damaged: {size} bytes are announced at byte {self.position}, "
                f"{len(self.content) - self.position} are left"
            )

    def _line(self) -> bytes:
        end = self.content.find(b"\n", self.position)
        if end < 0:
            raise UnpicklingError(f"it is cut off: the line at byte {self.position} has no end")
        return self._take(end + 1 - self.position)[:-1]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _counted(self, form: str) -> bytes:
        return self._take(self._number(form))

    # the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _put(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) < size:
            raise UnpicklingError(f"it is damaged near byte {self.position}")
        self._stack[-size:] = [items]

    # lists and dictionaries

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise UnpicklingError("items are appended to something that is no list")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(target, dict) or not isinstance(key, (str, bytes, int)):
                raise UnpicklingError(
                    "it sets an item of no dictionary, or under a key that is no text or whole number"
                )
            target[key] = value

    def _dictionary(self) -> None:
        items = self._pop_mark()
        self._push({})
        self._set_items(items)

    # names and calls

    def _name(self, module: str, name: str) -> None:
        text = f"{_MODULES.get(module, module)}.{name}"
        if text not in self._allowed or "." in name:
            raise UnpicklingError(
                f"it asks for {module}.{name}: it is no model file or was tampered with (none of it was run)"
            )
        self._push(Name(text))

    def _stack_name(self) -> None:
        module, name = self._stack[-2:]
        del self._stack[-2:]
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnpicklingError("the name of a function or class is no text")
        self._name(module, name)

    def _call(self) -> None:
        function, arguments = self._stack[-2:]
        del self._stack[-2:]
        if isinstance(function, Name) and function.text == "copyreg._reconstructor":
            function, arguments = arguments[0], ()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise UnpicklingError("it calls something that is no function")
        self._push(Call(function.text, arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if not isinstance(target, Call):
            raise UnpicklingError("it sets the state of something that is no object of a model file")
        target.state = state

    def _persistent(self) -> None:
        """PyTorch's reference to a storage; what may refer to storages is decided by whoever uses it."""
        if "torch storage" not in self._allowed:
            raise UnpicklingError("it refers to objects outside of the file")
        self._push(Call("torch storage", (self._stack.pop(),)))


def _text(content: bytes) -> str:
    return content.decode("utf-8")


def _latin1(content: bytes) -> str:
    return content.decode("latin1")


def _long(content: bytes) -> int:
    if len(content) > _MAX_INTEGER:
        raise UnpicklingError(f"a whole number in it has {len(content)} bytes")
    return int.from_bytes(content, "little", signed=True)


def _integer_line(line: bytes) -> int | bool:
    if line in (b"00", b"01"):
        return line == b"01"
    if len(line) > 3 * _MAX_INTEGER:
        raise UnpicklingError(f"a whole number in it has {len(line)} digits")
    return int(line.rstrip(b"L"))


def _string_line(line: bytes) -> str:
    """A byte string in quotes, with escapes, as Python 2 shows it."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise UnpicklingError(
            "a text in it is not quoted; perhaps the file was changed by a program that converts line ends"
        )
    return re.sub(r"\\(x[0-9a-fA-F]{2}|.)", _unescaped, line[1:-1].decode("latin1"))


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code[1:], 16)) if len(code) == 3 else _ESCAPES[code]


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(value)


def _counted(form: str, convert: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(convert(machine._counted(form)))


def _number(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(machine._number(form))


def _line(convert: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(convert(machine._line()))


#: What each instruction does. Left out are those that need something outside of the file (EXT1, PERSID, ...),
#: and those that no writer of model files uses (INST, OBJ, DUP, ...).
_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m._take(1),  # PROTO
    b"\x95": lambda m: m._expect(m._number("<Q")),  # FRAME
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"I": _line(_integer_line),
    b"L": _line(_integer_line),
    b"F": _line(float),
    b"S": _line(_string_line),
    b"V": _line(lambda line: line.decode("raw-unicode-escape")),
    b"J": _number("<i"),  # BININT
    b"K": _number("<B"),  # BININT1
    b"M": _number("<H"),  # BININT2
    b"G": _number(">d"),  # BINFLOAT
    b"\x8a": _counted("<B", _long),  # LONG1
    b"\x8b": _counted("<i", _long),  # LONG4
    b"U": _counted("<B", _latin1),  # SHORT_BINSTRING
    b"T": _counted("<i", _latin1),  # BINSTRING
    b"\x8c": _counted("<B", _text),  # SHORT_BINUNICODE
    b"X": _counted("<I", _text),  # BINUNICODE
    b"\x8d": _counted("<Q", _text),  # BINUNICODE8
    b"C": _counted("<B", bytes),  # SHORT_BINBYTES
    b"B": _counted("<I", bytes),  # BINBYTES
    b"\x8e": _counted("<Q", bytes),  # BINBYTES8
    b"\x96": _counted("<Q", bytes),  # BYTEARRAY8
    b"(": _Machine._mark,
    b"0": lambda m: m._stack.pop(),  # POP
    b"p": lambda m: m._put(_integer_line(m._line())),  # PUT
    b"q": lambda m: m._put(m._number("<B")),  # BINPUT
    b"r": lambda m: m._put(m._number("<I")),  # LONG_BINPUT
    b"\x94": lambda m: m._put(len(m._memo)),  # MEMOIZE
    b"g": lambda m: m._push(m._memo[_integer_line(m._line())]),  # GET
    b"h": lambda m: m._push(m._memo[m._number("<B")]),  # BINGET
    b"j": lambda m: m._push(m._memo[m._number("<I")]),  # LONG_BINGET
    b")": _constant(()),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"t": lambda m: m._push(tuple(m._pop_mark())),  # TUPLE
    b"]": lambda m: m._push([]),  # EMPTY_LIST
    b"\x8f": lambda m: m._push([]),  # EMPTY_SET
    b"l": lambda m: m._push(m._pop_mark()),  # LIST
    b"a": lambda m: m._append([m._stack.pop()]),  # APPEND
    b"e": lambda m: m._append(m._pop_mark()),  # APPENDS
    b"\x90": lambda m: m._append(m._pop_mark()),  # ADDITEMS
    b"}": lambda m: m._push({}),  # EMPTY_DICT
    b"d": _Machine._dictionary,
    b"s": lambda m: m._set_items([m._stack.pop(-2), m._stack.pop()]),  # SETITEM
    b"u": lambda m: m._set_items(m._pop_mark()),  # SETITEMS
    b"c": lambda m: m._name(_text(m._line()), _text(m._line())),  # GLOBAL
    b"\x93": _Machine._stack_name,
    b"R": _Machine._call,  # REDUCE
    b"\x81": _Machine._call,  # NEWOBJ
    b"b": _Machine._build,
    b"Q": _Machine._persistent,  # BINPERSID
}
