# cython: language_level=3, boundscheck=True, wraparound=False
"""The loops of `loops.py`, compiled: see there what each does. Whatever this file cannot tell at a glance it leaves to
the same Python as `loops.py`: a line beyond ASCII, an escape, a number that is no plain integer.

Every read of a line's characters is bounded by its length; lines are strangers' text.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from collections import namedtuple

from exporter.model import LogEvent

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    char *PyUnicode_1BYTE_DATA(object text)
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 greatest)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    PyObject *PyList_GET_ITEM(object values, Py_ssize_t place)  # borrowed
    PyObject *PyTuple_GET_ITEM(object values, Py_ssize_t place)  # borrowed
    Py_ssize_t PyList_GET_SIZE(object values)

cdef extern from *:
    """
    #include <structmember.h>

    /* Where a member that a class keeps in its objects lies in them; 0: that is not how it is kept. */
    static Py_ssize_t place_of_member(PyObject *kind, const char *name) {
        PyObject *found = PyDict_GetItemString(((PyTypeObject *) kind)->tp_dict, name);  /* borrowed */
        if (found == NULL || Py_TYPE(found) != &PyMemberDescr_Type) return 0;
        PyMemberDef *member = ((PyMemberDescrObject *) found)->d_member;
        return member->type == T_OBJECT_EX ? member->offset : 0;
    }
    """
    Py_ssize_t place_of_member(object kind, const char *name)
    PyObject *Py_TYPE(object value)

COMPILED = True
Form = tuple
Ended = dict

cdef PyObject *EVENT = <PyObject *> LogEvent
cdef Py_ssize_t MESSAGE_AT = place_of_member(LogEvent, "message")
cdef Py_ssize_t EVENT_ID_AT = place_of_member(LogEvent, "event_id")
cdef Py_ssize_t AT_MS_AT = place_of_member(LogEvent, "at_ms")


cdef inline PyObject *member(object event, Py_ssize_t at) noexcept:
    """What an event holds at a place, borrowed; NULL if it is no event, or that is not how it holds it."""
    return (<PyObject **> (<char *> <PyObject *> event + at))[0] if at and Py_TYPE(event) == EVENT else NULL


cdef inline object message_of(object event):
    cdef PyObject *found = member(event, MESSAGE_AT)
    return <object> found if found != NULL else event.message


cdef inline object event_id_of(object event):
    cdef PyObject *found = member(event, EVENT_ID_AT)
    return <object> found if found != NULL else event.event_id


cdef inline object at_ms_of(object event):
    cdef PyObject *found = member(event, AT_MS_AT)
    return <object> found if found != NULL else event.at_ms


# ------------------------------------------------------------------------------------------------- JSON access lines

cdef struct Value:
    const char *after  # the text behind it
    Py_ssize_t after_size
    Py_ssize_t column
    bint quoted


cdef inline bint is_blank(char text) noexcept nogil:
    return text in (c" ", c"\n", c"\r", c"\t")


cdef inline Py_ssize_t size_without_blanks(const char *text, Py_ssize_t size) noexcept nogil:
    """The size of a text without the blanks behind it."""
    while size > 0 and is_blank(text[size - 1]):
        size -= 1
    return size


cdef bint is_plain(const char *text, Py_ssize_t size) noexcept nogil:
    """Whether no character is an escape or a control character: what stands in quotation marks is then the value."""
    cdef Py_ssize_t place
    cdef unsigned char found = 0
    for place in range(size):
        found |= (<unsigned char> text[place] < 0x20) | (text[place] == c"\\")
    return not found


cdef inline bint is_same(text, const char *other, Py_ssize_t size) noexcept:
    return (
        PyUnicode_GET_LENGTH(text) == size
        and PyUnicode_IS_COMPACT_ASCII(text)
        and memcmp(PyUnicode_1BYTE_DATA(text), other, size) == 0
    )


cdef Py_ssize_t digits(const char *text, Py_ssize_t size) noexcept nogil:
    """How many digits a plain integer has that begins here, 18 at most; 0: there is none."""
    cdef Py_ssize_t count = 0
    while count < size and c"0" <= text[count] <= c"9":
        count += 1
    return 0 if count > 18 or (count > 1 and text[0] == c"0") else count


cdef long long number_of(const char *text, Py_ssize_t size) noexcept nogil:
    cdef long long number = 0
    cdef Py_ssize_t place
    for place in range(size):
        number = 10 * number + (text[place] - c"0")
    return number


cdef inline str made(const char *text, Py_ssize_t size):
    """A text of ASCII characters."""
    cdef str copy = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(copy), text, size)
    return copy


cdef list SMALL = [str(number) for number in range(1000)]
"""Latencies, mostly: they need not be made, nor hashed, again."""


cdef inline str number_text(const char *text, Py_ssize_t size):
    """A text that is mostly a small number."""
    cdef int number = 0
    cdef Py_ssize_t place
    if not 1 <= size <= 3 or (text[0] == c"0" and size > 1):
        return made(text, size)
    for place in range(size):
        if not c"0" <= text[place] <= c"9":
            return made(text, size)
        number = 10 * number + (text[place] - c"0")
    return <str> <object> PyList_GET_ITEM(SMALL, number)


cdef unsigned long long GOLDEN = 0x9E3779B97F4A7C15

cdef enum:
    KEPT = 256  # as many as `spread` tells apart


cdef unsigned int spread(unsigned long long number) noexcept nogil:
    return <unsigned int> ((number * GOLDEN) >> 56)


cdef unsigned int kept_at(const char *text, Py_ssize_t size) noexcept nogil:
    cdef unsigned long long first = 0, last = 0
    if size >= 8:
        memcpy(&first, text, 8)
        memcpy(&last, text + size - 8, 8)
    else:
        memcpy(&first, text, size)
    return spread(first ^ last * 3 ^ <unsigned long long> size)


cdef class _Kept:
    """Values of one call: what repeats from line to line is made once, and found to be the same at a glance."""

    cdef list texts, ends, routes

    def __cinit__(self):
        self.texts, self.ends, self.routes = [None] * KEPT, [None] * KEPT, [None] * KEPT

    cdef inline object text(self, const char *text, Py_ssize_t size):
        cdef unsigned int place = kept_at(text, size)
        cdef PyObject *kept = PyList_GET_ITEM(self.texts, place)
        if <object> kept is None or not is_same(<object> kept, text, size):
            self.texts[place] = made(text, size)
            kept = PyList_GET_ITEM(self.texts, place)
        return <object> kept

    cdef inline object route(self, list row, Py_ssize_t start, dict known):
        """What is known of the end of a row from `start` on; the end itself if nothing is."""
        cdef Py_ssize_t place, size = PyList_GET_SIZE(row) - start
        cdef unsigned long long number = 0
        cdef PyObject *end
        for place in range(size):
            number = (number ^ <unsigned long long> <size_t> PyList_GET_ITEM(row, start + place)) * 31
        cdef unsigned int at = spread(number)
        end = PyList_GET_ITEM(self.ends, at)
        if <object> end is not None:
            for place in range(size):
                if PyTuple_GET_ITEM(<object> end, place) != PyList_GET_ITEM(row, start + place):
                    break
            else:
                return <object> PyList_GET_ITEM(self.routes, at)
        values = tuple(row[start:])
        self.ends[at] = values
        self.routes[at] = known.get(values, values)
        return <object> PyList_GET_ITEM(self.routes, at)


cdef class _FormColumns:
    """Makes columns of lines that look like each other around their values."""

    cdef tuple between  # keeps alive what is pointed into
    cdef Py_ssize_t count, width

    cdef bint fits(self, str line, _Kept kept, list row, Py_ssize_t single) except -1:
        """Whether a line has the form; then `row` holds its values."""
        raise NotImplementedError

    cdef object row_otherwise(self, line):
        """The row of a line that does not fit the form; None: it is left to the caller."""
        raise NotImplementedError

    def read(self, list events, Py_ssize_t start, columns, dict known):
        cdef Py_ssize_t place, column, single = len(columns) - 1
        cdef list row = [None] * self.width
        cdef list routes = columns[single]
        cdef list others = []  # rows of lines that did not fit, to be added before the next that does
        cdef tuple lists = tuple(columns)
        cdef _Kept kept = None
        if single > self.width:
            raise ValueError("more columns than a row has values")
        for place in range(start, len(events)):
            line = message_of(events[place])
            if self.count > 0:
                if kept is None:
                    kept = _Kept()
                if self.fits(line, kept, row, single):
                    if others:
                        columns.add(others, known)
                        others = []
                    for column in range(single):
                        (<list> lists[column]).append(row[column])
                    routes.append(kept.route(row, single, known))
                    continue
            found = self.row_otherwise(line)
            if found is None:
                break
            others.append(found)
        else:
            place = len(events)
        if others:
            columns.add(others, known)
        return max(place - start, 0)


cdef class JsonColumns(_FormColumns):
    cdef object decode, row_of, refused
    cdef Value *values
    cdef readonly Py_ssize_t misfits

    def __cinit__(self):
        self.values, self.count = NULL, 0

    def __init__(self, decode, row_of, tuple refused, form, Py_ssize_t width):
        self.decode, self.row_of, self.refused = decode, row_of, refused
        self.width = width
        if form is not None and all([text.isascii() for text in form[0]]):
            self.learn(form)

    cdef learn(self, form):
        cdef Py_ssize_t place
        cdef bytes after
        between, quoted, columns = form
        self.between = tuple([text.encode("ascii") for text in between])
        self.values = <Value *> PyMem_Malloc(len(columns) * sizeof(Value))
        if self.values == NULL:
            raise MemoryError
        for place in range(len(columns)):
            after = self.between[place + 1]
            if columns[place] >= self.width:
                raise ValueError("a column beyond the row")
            self.values[place].after = after
            self.values[place].after_size = len(after)
            self.values[place].column = columns[place]
            self.values[place].quoted = quoted[place]
        self.count = len(columns)

    def __dealloc__(self):
        PyMem_Free(self.values)

    cdef object row_otherwise(self, line):
        try:
            found = self.row_of(self.decode(line))
        except self.refused:
            return None
        self.misfits += 1
        return found

    cdef bint fits(self, str line, _Kept kept, list row, Py_ssize_t single) except -1:
        cdef const char *text
        cdef const char *end
        cdef Py_ssize_t size, at, length, number
        cdef Value value
        cdef bytes first = self.between[0]
        if line is None or not PyUnicode_IS_COMPACT_ASCII(line):
            return False
        text, size = PyUnicode_1BYTE_DATA(line), PyUnicode_GET_LENGTH(line)
        size = size_without_blanks(text, size)
        at = len(first)
        if size < at or memcmp(text, <const char *> first, at) != 0 or not is_plain(text, size):
            return False
        for number in range(self.count):
            value = self.values[number]
            if value.quoted:
                end = <const char *> memchr(text + at, c'"', size - at)
                if end == NULL:
                    return False
                length = end - (text + at)
                if value.column >= single:
                    row[value.column] = kept.text(text + at, length)
                elif value.column >= 0:
                    row[value.column] = number_text(text + at, length)
            else:
                length = digits(text + at, size - at)
                if length == 0:
                    return False
                if value.column >= 0:
                    row[value.column] = number_of(text + at, length)
            at += length
            if size - at < value.after_size or memcmp(text + at, value.after, value.after_size) != 0:
                return False
            at += value.after_size
        return at == size


# ------------------------------------------------------------------------------------------------- other access lines

ANYHOW, AT_SLASH, AT_VERB = range(3)
TextForm = tuple
cdef enum:
    IS_AT_SLASH = 1
    IS_AT_VERB = 2
    LONGEST_VERB = 16
    ASCII = 128


Run = namedtuple("Run", ("allowed", "longest", "begins"), defaults=(0, ANYHOW))


cdef struct Reach:
    const char *after  # the text behind it
    Py_ssize_t after_size
    Py_ssize_t column
    const char *allowed  # for each ASCII character whether it may be in it; NULL: it reaches up to `after`
    Py_ssize_t longest
    int begins


cdef const char *found_in(const char *text, Py_ssize_t size, const char *wanted, Py_ssize_t length) noexcept nogil:
    """The first place of a text within another; NULL: there is none."""
    cdef const char *last = text + size - length
    cdef const char *place = text
    while place <= last:
        place = <const char *> memchr(place, wanted[0], last - place + 1)
        if place == NULL or memcmp(place, wanted, length) == 0:
            return place
        place += 1
    return NULL


cdef Py_ssize_t verb_size(const char *text, Py_ssize_t size) noexcept nogil:
    """The length of a verb with the space behind it, where a slash follows; else 0."""
    cdef Py_ssize_t count = 0
    while count < LONGEST_VERB and count < size and c"A" <= text[count] <= c"Z":
        count += 1
    return count + 1 if count and count + 1 < size and text[count] == c" " and text[count + 1] == c"/" else 0


cdef class TextColumns(_FormColumns):
    cdef object row_of
    cdef dict tables  # keeps alive what `reaches` points into
    cdef Reach *reaches

    def __cinit__(self):
        self.reaches, self.count = NULL, 0

    def __init__(self, row_of, form, Py_ssize_t width):
        self.row_of, self.width = row_of, width
        if form is not None and all([text.isascii() for text in form[0]]):
            self.learn(form)

    cdef learn(self, form):
        cdef Py_ssize_t place
        cdef bytes after, table
        between, runs, columns = form
        self.between = tuple([text.encode("ascii") for text in between])
        self.tables = {
            run.allowed: bytes([chr(code) in run.allowed for code in range(ASCII)])
            for run in runs
            if run.allowed is not None
        }
        self.reaches = <Reach *> PyMem_Malloc(len(columns) * sizeof(Reach))
        if self.reaches == NULL:
            raise MemoryError
        for place in range(len(columns)):
            after, run = self.between[place + 1], runs[place]
            if columns[place] >= self.width:
                raise ValueError("a column beyond the row")
            self.reaches[place].after = after
            self.reaches[place].after_size = len(after)
            self.reaches[place].column = columns[place]
            self.reaches[place].allowed = NULL
            if run.allowed is not None:
                table = self.tables[run.allowed]
                self.reaches[place].allowed = table
            self.reaches[place].longest = run.longest
            self.reaches[place].begins = run.begins
        self.count = len(columns)

    def __dealloc__(self):
        PyMem_Free(self.reaches)

    cdef object row_otherwise(self, line):
        return self.row_of(line)

    cdef bint fits(self, str line, _Kept kept, list row, Py_ssize_t single) except -1:
        cdef const char *text
        cdef const char *end
        cdef Py_ssize_t size, at, begin, length, number
        cdef Reach value
        cdef bytes first = self.between[0]
        if line is None or not PyUnicode_IS_COMPACT_ASCII(line):
            return False
        text, size = PyUnicode_1BYTE_DATA(line), PyUnicode_GET_LENGTH(line)
        size = size_without_blanks(text, size)
        at = 0
        while at < size and is_blank(text[at]):
            at += 1
        # Python knows more white space, all of it control characters.
        if at == size or text[at] < 0x20 or text[size - 1] < 0x20:
            return False
        if size - at < len(first) or memcmp(text + at, <const char *> first, len(first)) != 0:
            return False
        at += len(first)
        for number in range(self.count):
            value, begin = self.reaches[number], at
            if value.allowed != NULL:
                if value.begins == IS_AT_VERB:
                    at += verb_size(text + at, size - at)
                length = self.run(value, text + at, size - at)
                if length == 0:
                    return False
                at += length
            elif value.after_size == 0:
                at = size
            else:
                end = found_in(text + at, size - at, value.after, value.after_size)
                if end == NULL:
                    return False
                at = end - text
            if value.column >= single:
                row[value.column] = kept.text(text + begin, at - begin)
            elif value.column >= 0:
                row[value.column] = number_text(text + begin, at - begin)
            if size - at < value.after_size or memcmp(text + at, value.after, value.after_size) != 0:
                return False
            at += value.after_size
        return at == size

    cdef Py_ssize_t run(self, Reach value, const char *text, Py_ssize_t size) noexcept nogil:
        """How far a value reaches; 0: there is none."""
        cdef Py_ssize_t count = 0
        if value.begins != IS_AT_SLASH or (size and text[0] == c"/"):
            while count < size and value.allowed[<unsigned char> text[count]]:
                count += 1
        if count == 0 and size and text[0] == c"-":
            return 1
        return count if count <= value.longest else 0


# ------------------------------------------------------------------------------------------------- execution lines

MIDDLE, TRAILER, LINK, TERMINAL = range(4)
GOOD_STATUSES = {str(status): status for status in range(100, 400)}
cdef enum:
    IS_TRAILER = 1
    IS_LINK = 2
    IS_TERMINAL = 3
    HEAD_LENGTH = 21
    STATUS_AFTER = 32
    STATUS_SIZE = 3
    UUID_END = 37
    SLOTS = 256  # as many as `spread` tells apart: several times the number of heads

HEAD_SIZE, STATUS_BEHIND = HEAD_LENGTH, STATUS_AFTER

cdef struct Head:
    char text[HEAD_LENGTH]
    int kind  # -1: the slot is empty


cdef unsigned int slot_of(const char *head) noexcept nogil:
    cdef unsigned long long first = 0, middle = 0, last = 0
    memcpy(&first, head, 8)
    memcpy(&middle, head + 8, 8)
    memcpy(&last, head + HEAD_LENGTH - 8, 8)
    return spread(first ^ middle * 3 ^ last * 7)


def end_of_id(str message not None):
    if message[15:16] == "=" and message[16:17] == ")":
        return 16
    return 17 if message[16:18] == "=)" else UUID_END


cdef inline Py_ssize_t end_in(const char *text, Py_ssize_t size) noexcept nogil:
    """The same; 0: too little of a text stands behind it."""
    cdef Py_ssize_t end = UUID_END
    if size > 17 and text[16] in (c")", c"="):
        if text[16] == c")" and text[15] == c"=":
            end = 16
        elif text[16] == c"=" and text[17] == c")":
            end = 17
    return end if size >= end + HEAD_LENGTH else 0


cdef class Routine:
    cdef dict kinds
    cdef Head[SLOTS] heads
    cdef long long stretch_ms

    def __init__(self, kinds, long long stretch_ms):
        cdef bytes head
        cdef unsigned int slot
        self.kinds, self.stretch_ms = dict(kinds), stretch_ms
        if len(self.kinds) > SLOTS // 2:
            raise ValueError("too many heads")
        for slot in range(SLOTS):
            self.heads[slot].kind = -1
        for text, kind in self.kinds.items():
            head = text.encode("ascii")
            if len(head) != HEAD_LENGTH:
                raise ValueError(text)
            slot = slot_of(head)
            while self.heads[slot].kind >= 0:
                slot = (slot + 1) % SLOTS
            memcpy(self.heads[slot].text, <const char *> head, HEAD_LENGTH)
            self.heads[slot].kind = kind

    cdef int kind_of(self, const char *head) noexcept:
        cdef unsigned int slot = slot_of(head)
        while self.heads[slot].kind >= 0:
            if memcmp(self.heads[slot].text, head, HEAD_LENGTH) == 0:
                return self.heads[slot].kind
            slot = (slot + 1) % SLOTS
        return -1

    def take(self, list events, Py_ssize_t start, dict lines_by_id, open_ids, set shared, ended):
        cdef _Ends ends = _Ends(self.stretch_ms, ended)
        try:
            return self.taken(events, start, lines_by_id, open_ids, shared, ends)
        finally:
            ends.file()

    cdef Py_ssize_t taken(
        self, list events, Py_ssize_t start, dict lines_by_id, open_ids, set shared, _Ends ends
    ) except -1:
        cdef Py_ssize_t place, end, size = 0
        cdef const char *text
        cdef int kind, status
        cdef str message
        cdef str request_id = None
        cdef list lines = None
        cdef object event
        for place in range(start, len(events)):
            event = events[place]
            message = message_of(event)
            text = NULL
            if PyUnicode_IS_COMPACT_ASCII(message):
                size = PyUnicode_GET_LENGTH(message)
                text = PyUnicode_1BYTE_DATA(message)
                end = end_in(text, size)
                if end == 0:
                    return place
                kind = self.kind_of(text + end)
            else:
                end = end_of_id(message)
                kind = self.kinds.get(message[end:end + HEAD_LENGTH], -1)
            if kind < 0:
                return place
            # Lines of a request follow each other: often the id is that of the line before.
            if text == NULL or request_id is None or not is_same(request_id, text + 1, end - 1):
                request_id = message[1:end] if text == NULL else made(text + 1, end - 1)
                lines = lines_by_id.get(request_id)
            if lines is None:
                if kind == IS_TERMINAL or request_id in open_ids:
                    return place
                if kind != IS_TRAILER:
                    lines = [event]
                    lines_by_id[request_id] = lines
            elif kind == IS_TERMINAL:
                if text != NULL:
                    status = status_in(text + end + STATUS_AFTER, size - end - STATUS_AFTER)
                else:
                    status = GOOD_STATUSES.get(message[end + STATUS_AFTER:], 0)
                if status == 0 or request_id in shared:
                    return place
                ends.add(at_ms_of(event), status)
                del lines_by_id[request_id]
                lines = None
            elif kind == IS_LINK:
                return place
            else:
                lines.append(event)
        return len(events)


cdef long long FAR = 1 << 61  # times beyond it, which nobody has, are left to Python


@cython.final
cdef class _Ends:
    """Counts of requests that ended well: those that follow each other with the same status in the same stretch of
    time are counted without a look-up."""

    cdef object ended, number
    cdef long long stretch_ms, first_ms
    cdef int status
    cdef Py_ssize_t amount

    def __cinit__(self, long long stretch_ms, ended):
        self.stretch_ms, self.ended = stretch_ms, ended
        self.amount = 0

    cdef int add(self, at_ms, int status) except -1:
        cdef int overflow = 0
        cdef long long time
        if self.ended is None:
            return 0
        time = PyLong_AsLongLongAndOverflow(at_ms, &overflow)
        if overflow or not -FAR <= time <= FAR:
            self.file()
            count(self.ended, (at_ms // self.stretch_ms, status), 1)
            return 0
        if not (self.amount and status == self.status and 0 <= time - self.first_ms < self.stretch_ms):
            self.file()
            self.number, self.status = at_ms // self.stretch_ms, status
            self.first_ms = time - time % self.stretch_ms
        self.amount += 1
        return 0

    cdef int file(self) except -1:
        if self.amount:
            count(self.ended, (self.number, self.status), self.amount)
            self.amount = 0
        return 0


cdef int status_in(const char *digit, Py_ssize_t size) noexcept nogil:
    """The status of a request that ended well, from 100 to 399; else 0."""
    if size != STATUS_SIZE:
        return 0
    if not (c"1" <= digit[0] <= c"3" and c"0" <= digit[1] <= c"9" and c"0" <= digit[2] <= c"9"):
        return 0
    return 100 * (digit[0] - c"0") + 10 * (digit[1] - c"0") + (digit[2] - c"0")


cdef enum:
    AT_ONCE = 1024  # so many values are counted by where they lie, without a hash
    COUNTED = 2048  # in so many slots


def tally(list values, dict counts):
    cdef PyObject *counted[COUNTED]
    cdef int amounts[COUNTED]
    cdef unsigned int order[AT_ONCE]  # what is counted is in the order in which it came, wherever it lies
    cdef Py_ssize_t start, place, distinct
    cdef unsigned int at
    cdef PyObject *value
    for start in range(0, len(values), AT_ONCE):
        memset(counted, 0, sizeof(counted))
        distinct = 0
        for place in range(start, min(start + AT_ONCE, len(values))):
            value = PyList_GET_ITEM(values, place)
            at = <unsigned int> ((<unsigned long long> <size_t> value * GOLDEN) >> 53)
            while counted[at] != NULL and counted[at] != value:
                at = (at + 1) % COUNTED
            if counted[at] == NULL:
                counted[at], amounts[at] = value, 0
                order[distinct] = at
                distinct += 1
            amounts[at] += 1
        for place in range(distinct):
            count(counts, <object> counted[order[place]], amounts[order[place]])


cdef inline int count(dict counts, value, Py_ssize_t amount) except -1:
    counts[value] = counts.get(value, 0) + amount
    return 0


cdef enum:
    FEW = 512  # so many texts are noted by their ends, of which most others have none
    LAST = 8
    ENDS = 8192


def places_of(list values, wanted):
    cdef unsigned char ends[ENDS]
    if not noted(ends, wanted, len(values)):
        return [place for place in range(len(values)) if values[place] in wanted]
    return [place for place in range(len(values)) if ends[end_of(values[place])] and values[place] in wanted]


cdef bint noted(unsigned char *ends, wanted, Py_ssize_t most) except -1:
    """Note how texts end; False: that would not be worth it, or not all are long enough."""
    cdef unsigned int end
    if not isinstance(wanted, (dict, set)) or len(wanted) > min(most, FEW):
        return False
    memset(ends, 0, ENDS)
    ends[0] = 1
    for text in wanted:
        end = end_of(text)
        if end == 0:
            return False
        ends[end] = 1
    return True


cdef inline unsigned int end_of(value) noexcept:
    """A number that equal texts have in common; 0 for what is no text, is a short one, or one beyond ASCII."""
    cdef unsigned long long last = 0
    cdef Py_ssize_t size
    if type(value) is not str or not PyUnicode_IS_COMPACT_ASCII(value):
        return 0
    size = PyUnicode_GET_LENGTH(value)
    if size < LAST:
        return 0
    memcpy(&last, PyUnicode_1BYTE_DATA(value) + size - LAST, LAST)
    return <unsigned int> ((last * GOLDEN) >> 51) or 1


def are_in_order(list events):
    cdef Py_ssize_t place
    cdef long long at_ms, last = 0
    cdef int overflow = 0
    for place in range(len(events)):
        at_ms = PyLong_AsLongLongAndOverflow(at_ms_of(events[place]), &overflow)
        if overflow:
            times = [event.at_ms for event in events]
            return times == sorted(times)
        if place > 0 and at_ms < last:
            return False
        last = at_ms
    return True


def are_ascending(list events, str after):
    cdef str last = after
    cdef str event_id
    cdef Py_ssize_t place, size
    for place in range(len(events)):
        event_id = event_id_of(events[place])
        size = PyUnicode_GET_LENGTH(event_id)
        if (
            size == PyUnicode_GET_LENGTH(last)
            and PyUnicode_IS_COMPACT_ASCII(event_id)
            and PyUnicode_IS_COMPACT_ASCII(last)
        ):
            if memcmp(PyUnicode_1BYTE_DATA(event_id), PyUnicode_1BYTE_DATA(last), size) <= 0:
                return False
        elif event_id <= last:
            return False
        last = event_id
    return True


def are_within(list events, long long start_ms, long long end_ms):
    cdef Py_ssize_t place
    cdef long long at_ms
    cdef int overflow = 0
    for place in range(len(events)):
        at_ms = PyLong_AsLongLongAndOverflow(at_ms_of(events[place]), &overflow)
        if overflow or not start_ms <= at_ms < end_ms:
            return False
    return True
