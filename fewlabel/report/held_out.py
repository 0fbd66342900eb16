"""What a page says of the examples that do not train."""

from fewlabel.data import Splits

__all__ = ["held_out_in_words"]


def held_out_in_words(splits: Splits, chosen: str, tested: str) -> str:
    """How many examples are held out for what, such as "269 to choose by, 269 to test the judge".

    Data without a test part have the same examples for both.

    Args:
        splits: which examples are held out.
        chosen: what the validation split is for, such as "to choose by".
        tested: what is tested on held-out examples, such as "the judge".
    """
    validation, test = len(splits.validation), len(splits.test)
    if test:
        return f"{validation} {chosen}, {test} to test {tested}"
    return f"{validation} {chosen} and to test {tested}: the data have no test part"
