#!/usr/bin/env python3
"""verify.json: pairs of spellings of numbers and whether they are equal, by Python's Fraction.
Needs nothing but Python. Run: python3 tests/golden/make_verify.py"""
import json
import os
import random
from fractions import Fraction

random.seed(3)


def grouped(n, sep):
    s = str(n)
    head = len(s) % 3 or 3
    return s[:head] + "".join(sep + s[i:i + 3] for i in range(head, len(s), 3))


def spell(sign, num, den, unit):
    """One of the ways to write sign * num / den, or None where it has no such form. unit: may have one."""
    minus = random.choice(["-", "\u2212"]) if sign < 0 else random.choice(["", "", "+"])
    k = random.randrange(9)
    if k == 0:
        return f"{minus}{num}/{den}"
    if k == 1:
        return f"{minus}\\frac{{{num}}}{{{den}}}"
    if k == 2 and num > den > 1 and num % den:
        return f"{minus}{num // den} {num % den}/{den}"
    if k == 3 and num > den > 1 and num % den:
        return f"{minus}{num // den}\\tfrac{{{num % den}}}{{{den}}}"
    whole, rest = divmod(num * 10**12, den)
    digits = str(whole).rjust(13, "0")
    if rest:
        return None
    decimal = (digits[:-12] + "." + digits[-12:].rstrip("0")).rstrip(".")
    if k == 4:
        return minus + decimal
    if k == 5:
        return f"{minus}{decimal}" + ("00" if "." in decimal else ".00")
    if k == 6 and "." not in decimal:
        return minus + grouped(int(decimal), random.choice([",", "{,}", "\\,", "\u202f"]))
    if k == 7:
        x = Fraction(sign * num, den) * 100
        return f"{x.numerator}\\%" if x.denominator == 1 else None
    if k == 8 and unit:
        return f"{minus}{decimal}" + random.choice([" km", " apples", "\\text{ m}", "^\\circ", " cm^2"])
    return None


def value():
    den = random.choice([1, 1, 1, 2, 3, 4, 5, 7, 8, 10, 12, 100, 125, 1000])
    return random.choice([1, 1, -1]), random.randrange(0, 10 ** random.randrange(1, 8)), den


def main():
    rows = []
    while len(rows) < 700:
        a = value()
        if random.random() < 0.5:
            m = random.randrange(1, 5)
            b = (a[0], a[1] * m, a[2] * m)
        else:
            b = (a[0], max(0, a[1] + random.choice([-1, 1, 10])), a[2])
        x, y = spell(*a, True), spell(*b, False)
        if x and y:
            rows.append([x, y, Fraction(a[0] * a[1], a[2]) == Fraction(b[0] * b[1], b[2])])
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "verify.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n")


main()
