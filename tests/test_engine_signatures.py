"""No function of the engine has more than eight parameters.

Values that belong together are one struct.
"""

import re
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "cnet/_core"
# Cython writes .c files.
SOURCES = sorted(path for path in CORE.iterdir() if path.suffix in {".pyx", ".pxd", ".pxi", ".h"})
MOST = 8

STRING = r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
CYTHON_COMMENT = re.compile(rf"(?P<string>{STRING})|#[^\n]*")
C_COMMENT = re.compile(rf"(?P<string>{STRING})|/\*[\s\S]*?\*/|//[^\n]*")
# C code in a docstring of `cdef extern`.
VERBATIM = re.compile(r'cdef extern from [^\n]*:\s*"""([\s\S]*?)"""')
# A name and its opening parenthesis, in a line that starts like a definition or a declaration.
CYTHON_FUNCTION = re.compile(
    r"^[ ]*(?:cdef|cpdef|def|ctypedef|const|void|int|bint|float|double|size_t|u?int\d+_t|Py_ssize_t"
    r"|real)\b"
    r"[^\n=(:]*?(?:(?P<name>\w+)|\(\*(?P<pointer>\w+)\))[ ]*(?:\"[^\"\n]*\"|\[[^\]\n]*\])?[ ]*"
    r"(?P<parameters>\()",
    re.MULTILINE,
)
C_FUNCTION = re.compile(
    r"\b(?:static|extern|typedef)\b[\w\s*#()]*?(?:(?P<name>[\w#]+)|\(\*(?P<pointer>\w+)\))[ ]*"
    r"(?P<parameters>\()"
)
C_MACRO = re.compile(r"#define (?P<name>\w+)(?P<parameters>\()")
C_ATTRIBUTE = re.compile(r"__attribute__\s*\(\([^()]*(?:\([^()]*\)[^()]*)*\)\)")


def parameters_at(code, start):
    """Return the parameters in the list that opens at `start`."""
    depth, current, found = 0, "", []
    for character in code[start:]:
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        if depth == 0 or (depth == 1 and character == ","):
            found.append(current.strip("([{ \n\\"))
            current = ""
            if depth == 0:
                break
        else:
            current += character
    return [parameter for parameter in found if parameter not in {"", "void", "self", "*", "/"}]


def functions(code, is_c):
    """Yield the name and the number of parameters of each function; the caller does not pass `self`."""
    patterns = [C_FUNCTION, C_MACRO] if is_c else [CYTHON_FUNCTION]
    if not is_c:
        for verbatim in VERBATIM.finditer(code):
            yield from functions(verbatim[1], is_c=True)
    comment = C_COMMENT if is_c else CYTHON_COMMENT
    code = comment.sub(lambda match: '""' if match["string"] else " ", code)
    code = C_ATTRIBUTE.sub("", code)
    for pattern in patterns:
        for match in pattern.finditer(code):
            name = match["name"] or match["pointer"]
            yield name, len(parameters_at(code, match.start("parameters")))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_functions_have_at_most_eight_parameters(path):
    found = list(functions(path.read_text(), path.suffix == ".h"))
    assert {name: n for name, n in found if n > MOST} == {}


if __name__ == "__main__":
    for path in SOURCES:
        for name, n in functions(path.read_text(), path.suffix == ".h"):
            print(path.name, name, n)
