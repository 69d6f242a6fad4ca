#!/usr/bin/env python3
"""verify_pairs.json: answers and references with the verdict that mathematics gives, for test_verify.
A class is a list of spellings of one thing: inside it everything is equal ("yes"), a spelling after
"?" may also be "cannot tell"; between classes nothing may be equal ("never"). PAIRS are decided one
by one. Needs nothing but Python:   python3 tests/golden/compare_verify.py
With the package math-verify it also prints every pair on which that disagrees:
                                    python3 tests/golden/compare_verify.py --math-verify"""
import json
import os
import sys

CLASSES = [
    # numbers
    ["42", "42.0", "042", "+42", "84/2", "\\frac{84}{2}", "6 \\times 7", "6*7", "forty-two?"],
    ["-42", "\u221242", "-\\frac{84}{2}", "(-42)", "-6 \\cdot 7", "$-42$"],
    ["43", "43.", "\\boxed{43}", "{43}", "\\left(43\\right)"],
    ["1/2", "0.5", ".5", "\\frac12", "\\dfrac{1}{2}", "\\tfrac{1}{2}", "50\\%", "50 percent", "\u00bd", "2^{-1}"],
    ["3/2", "1.5", "1 1/2", "1\\frac{1}{2}", "1\\frac12", "150\\%", "\\frac{3}{2}"],
    ["1234567", "1,234,567", "1{,}234{,}567", "1\\,234\\,567", "1 234 567", "1.234.567", "1,\\!234,\\!567"],
    ["1234567.89", "1,234,567.89", "1.234.567,89", "123456789/100"],
    ["300000", "3 \\times 10^5", "3e5", "3 \\cdot 10^{5}", "3 \u00d7 10^5", "300 thousand", "0.3 million", "300,000"],
    ["1024", "2^{10}", "2**10", "2^10", "4^5", "32 \\cdot 32", "1,024"],
    ["1000000", "10**6", "10^6", "1 million", "1e6", "1,000,000", "\\frac{10^9}{10^3}"],
    ["0.001", "1e-3", "10^{-3}", "\\frac{1}{1000}", "1/1000", "0.1\\%"],
    ["12345678901234567890123456789012345678901", "12,345,678,901,234,567,890,123,456,789,012,345,678,901"],
    ["12345678901234567890123456789012345678902"],
    ["9007199254740993"], ["9007199254740992"],
    ["0.1000000000000000000000000000000000001"], ["0.1"],
    ["24", "2 dozen", "twenty-four?", "4!?"],
    ["7", "seven", "Seven"],
    ["5000000", "5 million", "5,000,000"],
    # roots, pi
    ["2\\sqrt{2}", "\\sqrt{8}", "\\sqrt8", "\\frac{4}{\\sqrt{2}}", "2 \\cdot \\sqrt{2}", "\\sqrt{2}+\\sqrt{2}", "2sqrt(2)"],
    ["3\\sqrt{2}", "\\sqrt{18}", "\\sqrt{2}+\\sqrt{8}"],
    ["1+\\sqrt{3}", "\\sqrt{3}+1", "1 + \\sqrt 3"],
    ["\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}", "\\sqrt{\\frac{1}{3}}", "\\sqrt{3}/3"],
    ["4", "\\sqrt{16}", "2\\sqrt{4}", "(\\sqrt{2})^4", "\\sqrt[2]{16}?"],
    ["2\\pi", "2 \\pi", "\\pi \\cdot 2", "2\u03c0", "2pi", "\\frac{4\\pi}{2}"],
    ["\\frac{\\pi}{2}", "\\pi/2", "0.5\\pi", "\\frac{1}{2}\\pi"],
    ["\\infty", "\u221e", "+\\infty"], ["-\\infty", "-\u221e"],
    # letters
    ["x+1", "1+x", "x + 1", "(x+1)"], ["x-1"], ["X+1"], ["y+1"],
    ["6xy", "6 xy", "3xy*2"], ["6xz"], ["6yx"], ["6Xy"],
    ["4ab^2", "4 a b^2?"], ["4ac^3"], ["4a^2b?"],
    ["2x", "2 x", "x*2", "\\frac{4x}{2}"], ["2X"], ["2"],
    ["\\frac{n(n+1)}{2}", "n(n+1)/2"], ["\\frac{n(n-1)}{2}"],
    ["f(x)"], ["F(x)"], ["f(X)"], ["fx"],
    ["\\sin 2x"], ["2\\sin x"], ["sin 2x"], ["2 sin x"],
    ["p \\rightarrow q", "p\\rightarrow q"], ["p \\leftarrow q"], ["p \\to q?"],
    # units
    ["45 km", "45\\text{ km}", "45 kilometers", "45000 m", "45\\,\\mathrm{km}", "45 \\text{km}"],
    ["45 cm", "450 mm", "0.45 m"],
    ["45 kg", "45000 g", "45 kilograms"],
    ["36 km/h", "10 m/s", "10 \\text{ m/s}", "36 kilometers per hour", "36 kph"],
    ["12 cm^2", "12\\text{ cm}^2", "12 square centimeters", "0.0012 m^2", "12 \\mathrm{cm}^{2}"],
    ["12 cm^3", "12 cubic centimeters", "12 mL"],
    ["90^\\circ", "90\u00b0", "90 degrees", "90^{\\circ}"],
    ["\\$5", "$5", "5 dollars", "500 cents", "\\$5.00", "5 USD"],
    ["5 euros", "\u20ac5", "5\u20ac", "5 EUR"],
    ["90 minutes", "1.5 hours", "1 1/2 hours", "5400 s", "90 min"],
    ["90 seconds", "1.5 minutes"],
    ["3 apples", "3 Apples", "three apples?"], ["3 oranges"],
    ["20^\\circ C", "20 degrees Celsius", "20\u00b0C"], ["20^\\circ F"],
    # sets, tuples, intervals
    ["\\{1,2\\}", "\\{2,1\\}", "\\{1, 2\\}", "\\left\\{2, 1\\right\\}", "\\{1,1,2\\}", "\\{\\frac{2}{2},2\\}", "{1,2}"],
    ["\\{1,3\\}"], ["\\{1,2,3\\}", "\\{3,2,1\\}"],
    ["(1,2)", "(1, 2)", "\\left(1,\\,2\\right)", "(1.0, \\frac{4}{2})", "(x,y) = (1,2)"],
    ["(2,1)"], ["(1,2,3)"], ["[1,2]", "[1.0, 2]"], ["[1,2)", "[1, 2)", "x \\in [1,2)"], ["(1,2]"],
    ["[0,\\infty)", "[0, \\infty)", "[0,+\\infty)"], ["(0,\\infty)"],
    ["(-\\infty,1] \\cup [2,3)", "[2,3) \\cup (-\\infty,1]?"], ["(-\\infty,1) \\cup [2,3)"],
    ["x=5, y=6"], ["x=6, y=5"],
    ["p \\pm q"], ["p \\mp q"], ["\\{\\}"], ["\\{0\\}"],
    # words, options, chemistry, dates
    ["Paris", "paris", "\\text{Paris}", "**Paris**", "\"Paris\"", "Paris."], ["London"],
    ["Yes", "yes", "YES", "\\textbf{yes}"], ["No", "no", "NO"], ["on"],
    ["CO"], ["Co"], ["co?"], ["AA"], ["Aa"], ["aa"], ["NaCl"], ["NACL"],
    ["January 14", "january 14"], ["January 15"], ["15 January"], ["14 March"],
    ["New York", "\\text{New York}"], ["New Jersey"], ["10:30"], ["10:45"],
    ["2024-01-14"], ["2024-01-15"], ["2009"], ["3-1"], ["H_2O", "H_{2}O"], ["H_3O"],
    ["1 2"], ["12"], ["2^3", "2**3", "8"], ["23"], ["204_5"], ["204"],
    ["x \\le 3", "x \\leq 3", "x<=3", "x \u2264 3"], ["x < 3"], ["x \\ge 3"],
    ["\\begin{pmatrix}1 & 0\\end{pmatrix}"], ["\\begin{pmatrix}0 & 1\\end{pmatrix}"],
    ["\\log_2 8"], ["\\log_8 2"], ["5!"], ["\\binom{5}{2}"], ["|x|"], ["x"],
]
# Equal by rules that are not symmetric, or two that are the same only in one of their readings.
PAIRS = [
    ("x = 3", "3", "yes"), ("3", "x = 3", "yes"), ("x = 3", "x = 3", "yes"), ("x = 3", "y = 3", "no"),
    ("y = 3", "x = 3", "no"), ("x = 4", "3", "no"), ("f(x) = 2x", "2x", "yes"), ("x = 3", "x = 4", "no"),
    ("B", "B", "yes"), ("(B)", "B", "yes"), ("B: Paris", "B", "yes"), ("B) Paris", "B", "yes"),
    ("\\textbf{(B)}\\ Paris", "B", "yes"), ("\\text{Option B}", "B", "yes"), ("B.", "B", "yes"),
    ("B. Paris", "B", "yes"), ("B", "B) Paris", "yes"), ("B) Paris", "(B) Paris", "yes"),
    ("C) Paris", "B", "no"), ("C", "B", "no"), ("C: Rome", "B) Paris", "no"), ("Option C", "B", "no"),
    ("B) London", "B) Paris", "unknown"), ("Paris", "B", "unknown"), ("b", "B", "unknown"),
    ("B or C", "B", "unknown"), ("(B) or (C)", "B", "unknown"), ("B, C", "B", "unknown"),
    ("B = 5", "B", "unknown"), ("B_1", "B", "unknown"), ("BC", "B", "unknown"),
    ("1,234", "1234", "yes"), ("1.234", "1234", "unknown"), ("1,234", "1.234", "unknown"),
    ("1,5", "1.5", "unknown"), ("1.234", "1.2340", "yes"), ("1.235", "1234", "no"), ("1.2345", "12345", "no"),
    ("1, 234", "1234", "no"), ("7 apples", "7", "yes"), ("7 cm", "7", "yes"), ("$7", "7", "yes"),
    ("7", "7 km/h", "yes"), ("7 apples", "7 cm", "unknown"), ("7 cm", "$7", "unknown"), ("(1,234)", "1234", "unknown"), ("1.5", "15", "no"), ("12.34", "1234", "no"),
    ("28\\%", "28", "unknown"), ("28\\%", "0.28", "yes"), ("28", "28 percent", "unknown"), ("28\\%", "29", "no"),
    ("150 cm", "1.5", "unknown"), ("150 cm", "1.6", "no"), ("1.5 m", "1.5", "yes"), ("5 m", "5 s", "unknown"),
    ("5m", "5", "unknown"), ("5 cm", "5 m", "no"), ("7", "7 apples", "yes"), ("8 apples", "7 apples", "no"),
    ("5 bananas", "5 oranges", "unknown"), ("5 zorks", "5", "unknown"), ("5 zorks", "6 zorks", "no"),
    ("1,2", "2,1", "unknown"), ("1, 2", "1,2", "yes"), ("1 and 2", "1, 2", "yes"), ("1 or 2", "1,2", "yes"),
    ("x=1 or x=2", "1, 2", "yes"), ("1,3", "1,2", "no"), ("1,2,3", "1,2", "no"), ("1,2", "\\{1,2\\}", "unknown"),
    ("1,2", "(1,2)", "unknown"), ("\\{1,2\\}", "(1,2)", "unknown"), ("5, -5", "5", "no"), ("[1,2]", "(1,2)", "no"),
    ("5", "\\boxed{5}", "yes"), ("5", "We add 2 and 3.\n#### 5", "yes"), ("3", "We add 2 and 3.\n#### 5", "no"),
    ("1", "\\boxed{1} and \\boxed{2}", "unknown"), ("2", "\\boxed{1} and \\boxed{2}", "unknown"),
    ("The answer is 5", "5", "unknown"), ("no solution", "5", "no"), ("2 2/3", "8/3", "yes"), ("2 4/3", "10/3", "unknown"),
    ("5-3", "2", "unknown"), ("1/2x", "x/2", "unknown"), ("1/2/3", "1/6", "unknown"), ("1/0", "5", "unknown"),
    ("0/5", "0", "yes"), ("-0", "0", "yes"), ("0^0", "1", "unknown"), ("10^{99999}", "10^{99998}", "unknown"),
    ("\\sqrt{-4}", "2", "unknown"), ("1.4142", "\\sqrt{2}", "no"), ("3.14", "\\pi", "no"), ("0.333", "1/3", "no"),
    ("2^{x}", "2^x", "yes"), ("", "5", "no"), ("5", "", "unknown"), ("\\text{ }", "5", "no"),
    ("5 million", "5", "no"), ("2\\pi", "2", "no"), ("2\\pi", "6.28", "no"), ("x", "5", "no"), ("2x", "2", "unknown"),
    ("3 \\text{ or } 4", "3", "unknown"), ("approximately 5", "5", "unknown"), ("a=b", "b=a", "no"),
]


def rows():
    flat = []
    for c in CLASSES:
        sure = [s for s in c if not s.endswith("?")]
        maybe = [s[:-1] for s in c if s.endswith("?")]
        flat.append((sure, maybe))
        for i, a in enumerate(sure):
            for b in sure[i:]:
                yield a, b, "yes"
                if a != b:
                    yield b, a, "yes"
        for a in maybe:
            yield a, sure[0] if sure else a, "any"
    for i, (a, _) in enumerate(flat):
        for k, (b, other) in enumerate(flat):
            for y in [b[j] for j in {0, i % len(b) if b else 0} if b] + other[:1]:
                if i != k and a and (i * 7 + k) % 19 == 0 and not bare(i, k):
                    yield a[-1 if k % 2 else 0], y, "never"
    yield from PAIRS


def bare(i, k):
    """A number with a unit is equal to the number alone: neighbours that only differ by that."""
    names = [set(s.rstrip("?") for s in CLASSES[n]) for n in (i, k)]
    units = [any(c.isalpha() or c in "$\u20ac\u00b0%" for s in n for c in s) for n in names]
    return any(units) and any(s[:2].strip("\\$\u20ac")[:1] == t[:2].strip("\\$\u20ac")[:1] and s[:1] not in "\\([" for s in names[0] for t in names[1])


def compare(table):
    from math_verify import parse, verify
    n = 0
    for a, b, want in table:
        said = verify(parse(f"${b}$", parsing_timeout=None), parse(f"\\boxed{{{a}}}", parsing_timeout=None), timeout_seconds=None)
        if want != "any" and said != (want == "yes"):
            print(f"{want:8} math-verify {'equal' if said else 'different':9} {a!r} for {b!r}")
            n += 1
    print(f"{n} of {len(table)} differ")


def main():
    table = list(dict.fromkeys(rows()))
    if "--math-verify" in sys.argv:
        return compare(table)
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "verify_pairs.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in table) + "\n]\n")


main()
