"""MatchModel in plain Python: the stream is a list, a slot an entry of a dict."""


class ReferenceMatch:
    """MatchModel, word for word."""

    RADIX, MURMUR = 6364136223846793005, 0xC4CEB9FE1A85EC53
    LONG, MOST_COMPARED = 32, 1024

    def __init__(self, min_length: int, table_bits: int, window: int) -> None:
        self.min_length = min_length
        self.table_bits = table_bits
        self.window = window
        self.tokens: list[int] = []
        self.start = 0  # of the document
        self.places: dict[int, int] = {}  # bucket -> where the token after that context stands
        self.pointer, self.length = 0, 0

    def bucket(self) -> int:
        """Return the slot of the last `min_length` tokens."""
        code = 0
        for token in self.tokens[-self.min_length :]:
            code = (code * self.RADIX + token + 1) % 2**64
        return (code ^ code >> 32) * self.MURMUR % 2**64 >> 64 - self.table_bits

    def match(self) -> tuple[int, int, int]:
        """Return (length, hint, distance) before the next token."""
        if self.length == 0:
            return 0, 0, 0
        return self.length, self.tokens[self.pointer], len(self.tokens) - self.pointer

    def compare(self, place: int) -> int:
        """Return how many tokens before `place` are as those before the next one."""
        here = len(self.tokens)
        reach = min(place - max(here - self.window, 0), here - self.start, self.MOST_COMPARED)
        length = 0
        while length < reach and self.tokens[place - 1 - length] == self.tokens[here - 1 - length]:
            length += 1
        return length

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        if self.length > 0:
            self.length = self.length + 1 if self.tokens[self.pointer] == token else 0
            self.pointer += 1
        self.tokens.append(token)
        if len(self.tokens) - self.start < self.min_length:
            return
        place = self.places.get(self.bucket(), 0)
        self.places[self.bucket()] = len(self.tokens)
        if place > 0 and self.length < self.LONG and not (self.length and place == self.pointer):
            length = self.compare(place)
            if length >= max(self.min_length, self.length):
                self.pointer, self.length = place, length

    def boundary(self) -> None:
        """Begin a new document."""
        self.start = len(self.tokens)
        self.length = 0
