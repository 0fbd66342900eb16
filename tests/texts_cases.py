"""Names that users give, which pictures, pages and tables have to show as they are."""

NAMES = {
    "formula": r"$\frac{a}{$",
    "prices": "5$ or 6$",
    "backslash dollar": r"a\$b$",
    "hidden from legends": "_x",
    "super": "a_b^c",
    "percent": "100 %",
    "html": "<b>&amp;|`*x*",
    "escape": "a\x1b[31mred",
    "lines": "a\nb\r\x85\u2028c",
    "right to left": "\u0627\u0628",
    "turned": "a\u202eb",
    "emoji": "😀 苍鹭",
    "half": "a\ud800",
    "long": "heron " * 33 + "ab",
    "wide": "W" * 200,
}
"""By what is odd about them."""

HIDDEN = ("\x1b", "\r", "\x85", "\u2028", "\u202e", "\ud800")
"""What must not come out of them."""
