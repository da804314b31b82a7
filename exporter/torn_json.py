"""Access lines that only look like JSON: API Gateway pastes some values in unescaped, quotes and line ends with them.

What stands between things that look like keys is read as far as it is whole. Nothing is guessed: a value whose end is
not there is left out, and the reader of whole lines decides which lines come here.
"""

import re

import msgspec

from exporter.access_values import text_of

REFUSED = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding may raise on strangers' text."""
MAX_DEPTH = 6
"""How deep the keys of a line are nested at most, to be read."""
MAX_KEYS = 256
"""So many values of a line are read."""
_decode = msgspec.json.Decoder().decode

_KEY = r'"([^"\\]{1,128})"\s{0,8}:\s{0,64}'
_FIRST_KEY = re.compile(rf"\{{\s{{0,64}}(){_KEY}")
_INNER_KEY = re.compile(rf"\s{{0,64}}(){_KEY}")
_NEXT_KEY = re.compile(rf"([,}}][\s,}}]{{0,64}}){_KEY}")
_NEXT_KEY_AFTER_STRING = re.compile(rf'"\s{{0,8}}{_NEXT_KEY.pattern}')
_TAIL = " \t\r\n,}"


def torn_values(line: str) -> dict[str, str]:
    """What can be read of a line that only looks like JSON: the values between things that look like keys.

    A value ends where a comma or brace and the next key follow, so quotes and commas inside it do no harm. The last
    value counts only if its end is there. A key that comes twice keeps its first value.
    """
    body = line.rstrip(_TAIL)
    ended = "}" in line[len(body) :]
    found: dict[str, str] = {}
    path: list[str] = []
    key = _FIRST_KEY.search(body)
    while key is not None:
        closed, name = key.groups()
        del path[max(0, len(path) - closed.count("}")) :]
        start = key.end()
        if body.startswith("{", start) and len(path) < MAX_DEPTH:
            path.append(name)
            key = _INNER_KEY.match(body, start + 1) or _NEXT_KEY.search(body, start + 1)
            continue
        end = -1
        if body.startswith('"', start):
            start += 1
            key = _NEXT_KEY_AFTER_STRING.search(body, start)
            if key is not None:
                end = key.start()
            else:
                key = _NEXT_KEY.search(body, start)
                if key is None and body.endswith('"') and len(body) > start:
                    end = len(body) - 1
        else:
            key = _NEXT_KEY.search(body, start)
            if key is not None or ended:
                end = key.start() if key is not None else len(body)
        if end >= 0 and len(found) < MAX_KEYS:
            found.setdefault(".".join([*path, name]), body[start:end])
    return found


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        value = _decode(f'"{text}"')
    except REFUSED:
        return text
    return value if isinstance(value, str) else text


def cleaned(text: str) -> str | None:
    """A value of a torn line without what tore it: `messageString` comes with quotes of its own."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text_of(_unescaped(text))
