"""MatchModel in plain Python: the stream is a list, and the slots are a dict."""


class ReferenceMatch:
    """The specification of `MatchModel`."""

    RADIX, MURMUR = 6364136223846793005, 0xC4CEB9FE1A85EC53
    LONG_MATCH, MAX_COMPARED = 32, 1024

    def __init__(self, min_length: int, table_bits: int, window: int) -> None:
        self.min_length = min_length
        self.table_bits = table_bits
        self.window = window
        self.tokens: list[int] = []
        self.document_start = 0
        self.slots: dict[int, int] = {}  # hash of min_length tokens -> position after the last ones
        self.pointer, self.length = 0, 0  # position of the hint; length of the match, 0 for none

    def slot(self) -> int:
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

    def compare(self, position: int) -> int:
        """Return how many tokens before `position` equal those before the next token."""
        end = len(self.tokens)
        longest = min(
            position - max(end - self.window, 0), end - self.document_start, self.MAX_COMPARED
        )
        length = 0
        while (
            length < longest and self.tokens[position - 1 - length] == self.tokens[end - 1 - length]
        ):
            length += 1
        return length

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        if self.length > 0:
            self.length = self.length + 1 if self.tokens[self.pointer] == token else 0
            self.pointer += 1
        self.tokens.append(token)
        if len(self.tokens) - self.document_start < self.min_length:
            return
        candidate = self.slots.get(self.slot(), 0)
        self.slots[self.slot()] = len(self.tokens)
        is_followed = self.length > 0 and candidate == self.pointer
        if candidate > 0 and self.length < self.LONG_MATCH and not is_followed:
            length = self.compare(candidate)
            if length >= max(self.min_length, self.length):
                self.pointer, self.length = candidate, length

    def boundary(self) -> None:
        """Begin a new document."""
        self.document_start = len(self.tokens)
        self.length = 0
