"""Which choice a text picks: by its letter, or by the choice's own words.

A text is cut into clauses. A clause *denies* the choices that it names ('A and B are wrong',
'not C', 'D: no') or *picks* one ('the answer is B', 'C: yes', 'I choose D'); others only name
them. What is picked last and never denied counts; then a letter at the very start; then the one
choice that is left, or the only one named. A text that offers two is no answer.
"""

import re
from collections.abc import Sequence

_LONGEST = 8000  # characters; the answer of a longer text is looked for at its end

_MARKUP = re.compile(r'\*\*|__|`|\$|\\(?:boxed|text|textbf|mathrm|mathbf)\s*(?=\{)|\\[()\[\]]')
_DENIED = re.compile(
    r'\b(?:not|never|neither|nor|none|cannot|wrong|incorrect|false|impossible|eliminat\w*|exclud\w*|'
    r"rul\w*\ out|ruled|reject\w*|discard\w*|rather\ than|instead\ of|unlike|no)\b|n['’]t\b|[✗✘❌]",
    re.IGNORECASE,
)
_PICKED = re.compile(
    r'\b(?:answers?|pick|picked|choose|chose|choosing|select|selected|go\ with|going\ with|correct|'
    r'right|best|better|yes|true|result|solution|must\ be|choice\ is|option\ is|settle\ on)\b'
    r'|\#{4}|[✓✔✅]|^\s*\{',
    re.IGNORECASE,
)
# 'not B' begins a clause of its own: in 'the answer is A, not B' and 'A and not B'.
_CLAUSE = re.compile(
    r'[;\n!?]|\.(?=\s|$)|,(?!\d)|(?<!⟧)(?<!answer)(?<!Answer)(?<!ANSWER)(?<!is):(?=\s)|'
    r'\b(?:so|but|because|since|while|whereas|therefore|thus|hence|as)\b|'
    r'(?=\b(?:not|rather\ than|instead\ of)\s+(?:the\ )?(?:answer\ |option\ |choice\ )?\(?[A-J⟦])'
)
# Names that end in a letter: 'vitamin C' is no choice.
_NAMES = (
    r'(?<!vitamin )(?<!hepatitis )(?<!type )(?<!class )(?<!grade )(?<!group )(?<!plan )'
    r'(?<!figure )(?<!part )(?<!point )(?<!step )(?<!factor )(?<!section )(?<!table )'
)
_VERB = (
    'is|was|are|and|or|because|since|as|would|must|should|can|cannot|does|doesn|isn|seems|looks|'
    'fits|makes|has|being|to|with|describes|states|says|matches|works|will|than|but|not|nor|rather|'
    'instead|too|seem|fit|do|don'
)


def chosen(prediction: str, labels: Sequence[str], choices: Sequence[str]) -> str | None:
    """Returns the label that a prediction picks, None if it picks none or more than one.

    Args:
      prediction: what the model wrote.
      labels: letters, such as 'A' to 'D'.
      choices: the text of each.
    """
    text = _MARKUP.sub('', prediction[-_LONGEST:]).strip()
    some = f'[{"".join(labels)}]'
    either = f'[{"".join(labels)}{"".join(labels).lower()}]'
    # Letters come first: of the choices CO, O2 and C the third may be B.
    alone = re.fullmatch(rf'[\s({{\["\']*({either})[\s)}}\]"\'.:,]*', text)
    if alone:
        return alone[1].upper()
    choices = [_MARKUP.sub('', choice).strip() for choice in choices]
    for label, choice in zip(labels, choices, strict=True):
        if text and _bare(text) == _bare(choice):
            return label
    first = re.match(
        rf'[\s({{\["\']*(?:({some})(?=[.):}},"\'\s]*(?:\n|$)|[.):}}])|({either})(?=\)))', text
    )
    text = _with_marks(text, labels, choices)
    denied, named, picked = _judge(text)
    named = [label for label in named if label not in denied]
    for labels_of_clause in reversed(picked):
        rest = labels_of_clause - denied
        if rest:
            return rest.pop() if len(rest) == 1 else None
    if first and (first[1] or first[2].upper()) not in denied:
        return first[1] or first[2].upper()
    if len(denied) == len(labels) - 1:
        return next(label for label in labels if label not in denied)
    return named[0] if len(set(named)) == 1 else None


def _bare(text: str) -> str:
    """A text without what surrounds it, for comparing."""
    return ' '.join(text.split()).strip(' .{}"\'').casefold()


def _with_marks(text: str, labels: Sequence[str], choices: Sequence[str]) -> str:
    """Writes every mention of a choice as ⟦letter⟧, whether by letter or by its words."""
    text = text.replace('⟦', '').replace('⟧', '')
    words = sorted(
        (
            (choice.strip().rstrip('.'), label)
            for label, choice in zip(labels, choices, strict=True)
        ),
        key=lambda pair: -len(pair[0]),
    )
    for choice, label in words:
        if choice and choice.upper() not in labels:
            pattern = rf'(?<![\w.⟦]){re.escape(choice)}(?![\w⟧]|\.\d)'
            text = re.sub(pattern, f'⟦{label.lower()}⟧', text, flags=re.IGNORECASE)
    some = f'[{"".join(labels)}]'
    # 'A' before a word is the article and 'I' the pronoun, unless it is a verb.
    letter = rf'(?![AI] (?!(?:{_VERB})\b)\w)({some})'
    text = re.sub(rf"(?<![\w'’+#⟦-])(?i:{_NAMES})\(?{letter}\b\)?(?![\w'’+#⟧]|-\w)", r'⟦\1⟧', text)
    text = re.sub(r'(⟦\w⟧)\.(?=\s+[a-z])', r'\1', text)  # 'A. wrong'
    small = some.lower()
    text = re.sub(rf'\(({small})\)', lambda m: f'⟦{m[1].upper()}⟧', text)
    cue = r'(?i:answer|option|choice)(?i:\s+(?:is|be|would be|must be|should be))?\s*[:=]?\s*'
    text = re.sub(
        rf'(\b{cue})({small})(?=\s*(?:[.,;:!?)]|$|\n))',
        lambda m: f'{m[1]}⟦{m[2].upper()}⟧',
        text,
    )
    # 'So B.' and 'It is B' at the end of a clause pick, whatever else was named
    text = re.sub(
        r"(?i)\b(so|therefore|thus|hence|it\ is|it['’]s)(\s*[:,]?\s*)(?=⟦\w⟧\s*(?:[.,;!\n]|$))",
        r'\1 answer\2',
        text,
    )
    # one group of a list: 'A, B and C are wrong'
    one = r'(?:(?:option|choice|answer)s?\ )?⟦\w⟧'
    return re.sub(
        rf'(?i){one}(?:\s*,\s*{one})*\s*,?\s*(?:and|or|&|nor)\s+{one}',
        lambda m: m[0].replace(',', ' '),
        text,
    )


def _judge(text: str) -> tuple[set[str], list[str], list[set[str]]]:
    """Returns choices denied, choices named, and for each clause that picks the ones it names.

    Letters count before words: of a clause that has both, the letters are taken.
    """
    denied: set[str] = set()
    named: list[str] = []
    picked: list[set[str]] = []
    for clause in _CLAUSE.split(text):
        letters = re.findall(r'⟦([A-J])⟧', clause)
        labels = letters or [letter.upper() for letter in re.findall(r'⟦([a-j])⟧', clause)]
        if not labels:
            continue
        plain = re.sub(r'⟦\w⟧', '', clause)
        if _DENIED.search(plain):
            denied.update(labels)
            continue
        named += labels
        if _PICKED.search(plain):
            picked.append(set(labels))
    return denied, named, picked
